// Rows of a tensor, for updates that touch only some of them.
#pragma once

#include "tenon/tensor/tensor.h"

namespace tenon::optim {

// x[indices[i]] for each i; indices is i64 [n].
Tensor take_rows(const Tensor& x, const Tensor& indices);
// x with row indices[i] replaced by rows[i]; the indices differ. Takes x's buffer if nobody else holds it.
Tensor set_rows(Tensor x, const Tensor& indices, Tensor rows);

}  // namespace tenon::optim
