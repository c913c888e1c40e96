// Arithmetic of row-sparse gradients (tensor/sparse_rows.h). Any op that meets one makes it dense first; optimisers ask
// for the rows instead.
#pragma once

#include "tenon/tensor/sparse_rows.h"

namespace tenon {

// x itself if it is dense.
Tensor to_dense(const Tensor& x);
// The sum of two gradients of one value; row-sparse if both are.
Tensor add_gradients(Tensor a, Tensor b);
// Repeated rows added up, rows in ascending order: what an optimiser updates.
Tensor coalesce(const Tensor& sparse);

}  // namespace tenon
