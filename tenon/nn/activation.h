// Activation functions as layers, for Sequential. Each is its function in ops/elementwise.h or ops/softmax.h.
#pragma once

#include "tenon/nn/members.h"
#include "tenon/nn/mode.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/softmax.h"
#include "tenon/tensor/variable.h"

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
struct SELU { Tensor operator()(Tensor x) const { return selu(std::move(x)); } };
struct CELU { double alpha = 1; Tensor operator()(Tensor x) const { return celu(std::move(x), alpha); } };
struct LogSigmoid { Tensor operator()(Tensor x) const { return log_sigmoid(std::move(x)); } };
struct HardSigmoid { Tensor operator()(Tensor x) const { return hard_sigmoid(std::move(x)); } };
struct HardTanh { double low = -1, high = 1; Tensor operator()(Tensor x) const { return hard_tanh(std::move(x), low, high); } };
struct Softsign { Tensor operator()(Tensor x) const { return softsign(std::move(x)); } };
struct Tanhshrink { Tensor operator()(Tensor x) const { return x - tanh(x); } };
struct Softmin { int64_t axis = -1; Tensor operator()(Tensor x) const { return softmax(-std::move(x), axis); } };
struct Softmax2d { Tensor operator()(Tensor x) const { return softmax(std::move(x), -3); } };  // over channels of [N, C, H, W]
// x beyond ±limit, else 0; and the same pulled towards 0 by the limit.
struct Hardshrink { double limit = 0.5; Tensor operator()(const Tensor& x) const { return where(greater(abs(x), limit), x, 0); } };
struct Softshrink { double limit = 0.5; Tensor operator()(const Tensor& x) const { return x - clamp(x, -limit, limit); } };
struct Threshold { double limit = 0, value = 0; Tensor operator()(const Tensor& x) const { return where(greater(x, limit), x, value); } };
// clang-format on

// PyTorch's spelling.
using Hardswish = HardSwish;
using Hardsigmoid = HardSigmoid;
using Hardtanh = HardTanh;

// The first half of an axis times the sigmoid of the second (Dauphin et al., arXiv 1612.08083).
struct GLU {
  int64_t axis = -1;
  Tensor operator()(const Tensor& x) const;
};

// x above 0, weight * x below: one weight, or one for each channel of [N, C, ...] (He et al., arXiv 1502.01852).
class PReLU {
 public:
  explicit PReLU(int64_t channels = 1, double start = 0.25, DType dtype = DType::F32);
  [[nodiscard]] Tensor operator()(const Tensor& x) const;

  Variable weight;
  using Members = nn::Members<&PReLU::weight>;
};

// Leaky with a slope drawn for each element while training, their mean while evaluating (Xu et al., arXiv 1505.00853).
class RReLU {
 public:
  explicit RReLU(double lower = 1.0 / 8, double upper = 1.0 / 3);
  [[nodiscard]] Tensor operator()(const Tensor& x) const;

  double lower, upper;
  Mode mode;
  using Members = nn::Members<&RReLU::mode>;
};

// Splits an axis into several of these extents; one may be -1.
struct Unflatten {
  int64_t axis = 1;
  Ints extents = {};
  Tensor operator()(const Tensor& x) const;
};

// Joins axes into one; by default all but the batch.
struct Flatten {
  int64_t start_axis = 1;
  int64_t end_axis = -1;
  Tensor operator()(Tensor x) const { return flatten(std::move(x), start_axis, end_axis); }
};

}  // namespace tenon::nn
