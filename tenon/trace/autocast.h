// Automatic mixed precision: the costly products in bf16 or f16, what needs the range in f32.
//
//   tenon::Autocast scope(tenon::bf16);      // on this thread, while it lives
//   Tensor loss = loss_fn(model(x), y);      // parameters stay f32, and so do their gradients
//
// Each op's definition says what becomes of its float inputs (`autocast` in ops/opdef.h; docs/ops.md lists it):
// products (matmul, convolution, attention, recurrent layers, einsum) take the scope's dtype, losses, softmax, norms,
// sums and functions of a wide range take f32, the others what they are given, the widest if they mix. These are the
// rules that PyTorch documents. f64 and integers stay. What an op calls inside, and a backward pass, keep the dtypes
// that the call settled. f16 needs a GradScaler (optim/grad_scaler.h), bf16 does not.
#pragma once

#include "tenon/tensor/dtype.h"

namespace tenon {

class Autocast {
 public:
  // Errors: DTypeError unless dtype is bf16 or f16.
  explicit Autocast(DType dtype = DType::BF16, bool enabled = true);
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  DType previous_;
};

// The dtype of the scope in force on this thread; f32 if there is none.
DType autocast_dtype();

}  // namespace tenon
