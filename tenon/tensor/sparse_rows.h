// Row-sparse gradients: those of an embedding table touch only the rows that were looked up.
//
// A placeholder in place of a dense tensor of zeros with a few rows. Arithmetic on it is in trace/sparse.h.
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

}  // namespace tenon
