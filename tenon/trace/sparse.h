// Row-sparse gradients: those of an embedding table touch only the rows that were looked up.
//
// A placeholder in place of a dense tensor of zeros with a few rows. Any op that meets one makes it dense
// first; optimisers ask for the rows instead.
#pragma once

#include "tenon/tensor/tensor.h"

namespace tenon {

// Stands for zeros(type) with values[i] added to row indices[i]; rows may repeat.
struct SparseRows : Placeholder {
  Tensor indices;  // i64 [n]
  Tensor values;   // [n, …type.shape[1:]]
};
Tensor make_sparse_rows(Tensor indices, Tensor values, const TensorType& type);
// Null if x is dense.
const SparseRows* sparse_rows(const Tensor& x);
// x itself if it is dense.
Tensor to_dense(const Tensor& x);
// The sum of two gradients of one value; row-sparse if both are.
Tensor add_gradients(Tensor a, Tensor b);
// Repeated rows added up, rows in ascending order: what an optimiser updates.
Tensor coalesce(const Tensor& sparse);

}  // namespace tenon
