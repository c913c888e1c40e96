// The one place where reuse of a buffer is decided.
#pragma once

#include "tenon/ops/opdef.h"
#include "tenon/tensor/tensor.h"

namespace tenon::exec {

struct SessionOptions;

// Memory for a result of this type: the buffer of an input that op.takes names, if this call holds its only
// handle (so no other value can see the change), it lies contiguously and has the same shape and width;
// fresh memory otherwise.
// Under `reuse = false` always fresh.
struct Result {
  Tensor tensor;
  Ref<Buffer> poison;  // under `poison`: the buffer that would have been taken, to be overwritten after the kernel
};
Result allocate_result(const SessionOptions& options, const ops::OpDef& op, std::span<Tensor> in,
                       const TensorType& type);
void overwrite(Buffer& buffer);

}  // namespace tenon::exec
