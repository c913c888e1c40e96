// Contractions.
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon {

// Matrix product of the last two axes; leading axes broadcast. A 1-d `a` is a row, a 1-d `b` a column, and that
// axis disappears from the result. Sums accumulate in f32 for f16 and bf16.
// Errors: ShapeError if the inner extents differ or a batch does not broadcast.
Tensor matmul(Tensor a, Tensor b);
// The same product of i8 or u8, each of the two with or without a sign: exact products, added up in i32 modulo 2^32
// (ONNX's MatMulInteger without its zero points). No gradient. Errors: DTypeError for other dtypes, else as matmul.
Tensor matmul_integer(Tensor a, Tensor b);
// The outer product of two vectors.
Tensor outer(Tensor a, Tensor b);
// sum(a * b) of two vectors.
Tensor dot(Tensor a, Tensor b);

namespace ops {
const OpDef& matmul_op();
const OpDef& matmul_integer_op();
std::vector<const OpDef*> matmul_ops();
}  // namespace ops

}  // namespace tenon
