// Limits on gradients, between backward() and step().
#pragma once

#include <vector>

#include "tenon/tensor/variable.h"

namespace tenon::optim {

// The Euclidean norm of all gradients together (0-d f32), or another p-norm; infinity takes the largest magnitude.
// Parameters without a gradient count as zero. Row-sparse gradients stay sparse.
Tensor grad_norm(const std::vector<Variable>& parameters, double p = 2);
// Scales all gradients by max_norm / norm if the norm is larger. Returns the norm before. As PyTorch's.
// Errors: ValueError unless max_norm is positive.
Tensor clip_grad_norm_(const std::vector<Variable>& parameters, double max_norm, double p = 2);
// Cuts each element to [-limit, limit]. Errors: ValueError unless limit is positive.
void clip_grad_value_(const std::vector<Variable>& parameters, double limit);

}  // namespace tenon::optim
