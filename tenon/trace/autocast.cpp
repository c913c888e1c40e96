#include "tenon/trace/autocast.h"

#include "tenon/base/error.h"

namespace tenon {
namespace trace::detail {

constinit thread_local DType autocast = DType::F32;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables): off

}  // namespace trace::detail

Autocast::Autocast(DType dtype, bool enabled) : previous_(trace::detail::autocast) {
  if (dtype != DType::BF16 && dtype != DType::F16)
    throw DTypeError({"Autocast", "not a dtype for mixed precision", "bf16 or f16", std::string(name(dtype)), {}});
  trace::detail::autocast = enabled ? dtype : DType::F32;
}
Autocast::~Autocast() { trace::detail::autocast = previous_; }

DType autocast_dtype() { return trace::detail::autocast; }

}  // namespace tenon
