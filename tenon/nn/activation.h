// Activation functions as layers, for Sequential. Each is its function in ops/elementwise.h or ops/softmax.h.
#pragma once

#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/softmax.h"

namespace tenon::nn {

// clang-format off
struct Identity { Tensor operator()(Tensor x) const { return x; } };
struct ReLU { Tensor operator()(Tensor x) const { return relu(std::move(x)); } };
struct ReLU6 { Tensor operator()(Tensor x) const { return relu6(std::move(x)); } };
struct LeakyReLU { double negative_slope = 0.01; Tensor operator()(Tensor x) const { return leaky_relu(std::move(x), negative_slope); } };
struct ELU { double alpha = 1; Tensor operator()(Tensor x) const { return elu(std::move(x), alpha); } };
struct GELU { bool tanh_approximation = false; Tensor operator()(Tensor x) const { return gelu(std::move(x), tanh_approximation); } };
struct SiLU { Tensor operator()(Tensor x) const { return silu(std::move(x)); } };
struct Mish { Tensor operator()(Tensor x) const { return mish(std::move(x)); } };
struct Tanh { Tensor operator()(Tensor x) const { return tanh(std::move(x)); } };
struct Sigmoid { Tensor operator()(Tensor x) const { return sigmoid(std::move(x)); } };
struct HardSwish { Tensor operator()(Tensor x) const { return hard_swish(std::move(x)); } };
struct Softplus { double beta = 1; Tensor operator()(Tensor x) const { return softplus(std::move(x), beta); } };
struct Softmax { int64_t axis = -1; Tensor operator()(Tensor x) const { return softmax(std::move(x), axis); } };
struct LogSoftmax { int64_t axis = -1; Tensor operator()(Tensor x) const { return log_softmax(std::move(x), axis); } };
// clang-format on

// Joins axes into one; by default all but the batch.
struct Flatten {
  int64_t start_axis = 1;
  int64_t end_axis = -1;
  Tensor operator()(Tensor x) const { return flatten(std::move(x), start_axis, end_axis); }
};

}  // namespace tenon::nn
