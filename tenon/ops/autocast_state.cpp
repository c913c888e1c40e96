#include "tenon/ops/autocast_state.h"

namespace tenon::ops::detail {

constinit thread_local DType autocast = DType::F32;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables): off

}  // namespace tenon::ops::detail
