#include "tenon/trace/autocast.h"

#include "tenon/base/error.h"
#include "tenon/ops/autocast_state.h"

namespace tenon {
Autocast::Autocast(DType dtype, bool enabled) : previous_(ops::detail::autocast) {
  if (dtype != DType::BF16 && dtype != DType::F16)
    throw DTypeError({"Autocast", "not a dtype for mixed precision", "bf16 or f16", std::string(name(dtype)), {}});
  ops::detail::autocast = enabled ? dtype : DType::F32;
}
Autocast::~Autocast() { ops::detail::autocast = previous_; }

DType autocast_dtype() { return ops::detail::autocast; }

}  // namespace tenon
