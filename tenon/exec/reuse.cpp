#include "tenon/exec/reuse.h"

#include <cstring>

#include "tenon/exec/session.h"

namespace tenon::exec {
namespace {

bool may_take(const Tensor& x, const TensorType& type) {
  if (!x.defined() || !x.unique()) return false;
  const TensorImpl& impl = *x.impl();
  return impl.buffer.unique() && impl.buffer->writable() && impl.offset == 0 && impl.type.shape == type.shape &&
         info(impl.type.dtype).bits == info(type.dtype).bits && x.is_contiguous();
}

}  // namespace

Result allocate_result(const SessionOptions& options, const ops::OpDef& op, std::span<Tensor> in,
                       const TensorType& type) {
  if (op.takes != 0 && options.reuse) {
    for (size_t i = 0; i < in.size() && i < 32; ++i) {
      if (!(op.takes & ops::bit(static_cast<int>(i))) || !may_take(in[i], type)) continue;
      if (options.poison) return {empty(type.shape, type.dtype), in[i].impl()->buffer};
      return {from_buffer(in[i].impl()->buffer, type), {}};
    }
  }
  Tensor fresh = empty(type.shape, type.dtype);
  if (options.poison) [[unlikely]]
    overwrite(*fresh.impl()->buffer);
  return {std::move(fresh), {}};
}

// All bits set: NaN in every float format, -1 or the largest number in every integer format.
void overwrite(Buffer& buffer) { std::memset(buffer.data(), 0xff, buffer.size()); }

}  // namespace tenon::exec
