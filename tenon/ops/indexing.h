// Indexing: elements chosen by tensors of positions.
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon {

// Slices of x along `axis` at these positions (i32 or i64, any shape; negative ones count from the end):
// the result's shape is x's with axis replaced by indices' shape (numpy.take, ONNX Gather).
// Errors: IndexError naming the first position out of range.
Tensor take(Tensor x, Tensor indices, int64_t axis = 0);
// x with values added to its slices along `axis` at these positions; indices is [n], positions may repeat (their
// values are added in order).
Tensor index_add(Tensor x, int64_t axis, Tensor indices, Tensor values);

namespace ops {
const OpDef& take_op();
const OpDef& index_add_op();
std::vector<const OpDef*> indexing_ops();
}  // namespace ops

}  // namespace tenon
