// Windows on the elements of tensors.
#pragma once

#include "tenon/tensor/tensor.h"
#include "tenon/tensor/view.h"

namespace tenon {

// The elements of a concrete tensor. An undefined tensor (an optional input that is absent) gives a window with
// data == nullptr. Errors: ValueError if the tensor is traced or batched.
ConstView view(const Tensor& x);
// For writing into a tensor just made with empty(); see mutable_data.
View mutable_view(Tensor& fresh);

}  // namespace tenon
