// Tensors from nothing.
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon {

Tensor full(const Shape& shape, double value, DType dtype = DType::F32);
Tensor zeros(const Shape& shape, DType dtype = DType::F32);
Tensor ones(const Shape& shape, DType dtype = DType::F32);
Tensor zeros_like(const Tensor& x);
Tensor ones_like(const Tensor& x);
Tensor full_like(const Tensor& x, double value);
// start, start + step, … before stop.
Tensor arange(int64_t stop);  // i64
Tensor arange(int64_t start, int64_t stop, int64_t step = 1, DType dtype = DType::I64);
Tensor arange(double start, double stop, double step, DType dtype = DType::F32);
Tensor linspace(double start, double stop, int64_t count, DType dtype = DType::F32);
// Ones on the diagonal.
Tensor eye(int64_t rows, int64_t columns = -1, DType dtype = DType::F32);
// The position along `axis` in a tensor of this shape.
Tensor iota(const Shape& shape, int64_t axis, DType dtype = DType::I64);

namespace ops {
const OpDef& full_op();  // attributes shape, value, dtype
const OpDef& iota_op();  // attributes shape, axis, dtype
std::vector<const OpDef*> creation_ops();
}  // namespace ops

}  // namespace tenon
