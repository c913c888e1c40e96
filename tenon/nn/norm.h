// Normalisation layers. The maths is in ops/normalization.h.
#pragma once

#include "tenon/nn/members.h"
#include "tenon/nn/mode.h"
#include "tenon/tensor/variable.h"

namespace tenon::nn {

struct NormOptions {
  double epsilon = 1e-5;
  bool affine = true;  // learn a weight (starting at 1) and a bias (0)
  bool bias = true;    // false: only a weight
  DType dtype = DType::F32;
};

// Over the last axes, which must have the given shape: [..., shape] -> the same.
class LayerNorm {
 public:
  explicit LayerNorm(int64_t width, NormOptions options = {}) : LayerNorm(Shape{width}, options) {}
  explicit LayerNorm(const Shape& shape, NormOptions options = {});
  [[nodiscard]] Tensor operator()(const Tensor& x) const;

  Shape shape;
  double epsilon;
  Variable weight, bias;
  using Members = nn::Members<&LayerNorm::weight, &LayerNorm::bias>;
};

struct RMSNormOptions {
  double epsilon = 1e-6;
  DType dtype = DType::F32;
};
// Over the last axis: x / sqrt(mean(x^2) + epsilon) * weight.
class RMSNorm {
 public:
  explicit RMSNorm(int64_t width, RMSNormOptions options = {});
  [[nodiscard]] Tensor operator()(const Tensor& x) const;

  double epsilon;
  Variable weight;
  using Members = nn::Members<&RMSNorm::weight>;
};

// [N, channels, ...] in `groups` groups of channels.
class GroupNorm {
 public:
  GroupNorm(int64_t groups, int64_t channels, NormOptions options = {});
  [[nodiscard]] Tensor operator()(const Tensor& x) const;

  int64_t groups;
  double epsilon;
  Variable weight, bias;
  using Members = nn::Members<&GroupNorm::weight, &GroupNorm::bias>;
};

struct BatchNormOptions {
  double epsilon = 1e-5;
  double momentum = 0.1;  // share of the new batch in the running statistics
  bool affine = true;
  DType dtype = DType::F32;
};
// [N, channels, ...] by the batch's statistics while training, by the running ones while evaluating.
// The rank is that of the input: one class serves BatchNorm1d, 2d and 3d.
class BatchNorm {
 public:
  explicit BatchNorm(int64_t channels, BatchNormOptions options = {});
  [[nodiscard]] Tensor operator()(const Tensor& x) const;

  double epsilon, momentum;
  Variable weight, bias;
  Variable running_mean, running_var;  // not trainable
  Variable num_batches_tracked;        // i64: how many batches the running statistics have seen
  Mode mode;
  using Members = nn::Members<&BatchNorm::weight, &BatchNorm::bias, &BatchNorm::running_mean, &BatchNorm::running_var,
                              &BatchNorm::num_batches_tracked, &BatchNorm::mode>;
};
using BatchNorm1d = BatchNorm;
using BatchNorm2d = BatchNorm;
using BatchNorm3d = BatchNorm;

struct InstanceNormOptions {
  double epsilon = 1e-5;
  double momentum = 0.1;
  bool affine = false;
  bool track_running_stats = false;  // evaluate by running statistics instead of each example's own
  DType dtype = DType::F32;
};
// [N, channels, ...]: each channel of each example by itself. One class serves InstanceNorm1d, 2d and 3d.
class InstanceNorm {
 public:
  explicit InstanceNorm(int64_t channels, InstanceNormOptions options = {});
  [[nodiscard]] Tensor operator()(const Tensor& x) const;

  int64_t channels;
  InstanceNormOptions options;
  // Undefined unless asked for. As in PyTorch, nothing counts the batches here.
  Variable weight, bias, running_mean, running_var, num_batches_tracked;
  Mode mode;
  using Members = nn::Members<&InstanceNorm::weight, &InstanceNorm::bias, &InstanceNorm::running_mean,
                              &InstanceNorm::running_var, &InstanceNorm::num_batches_tracked, &InstanceNorm::mode>;
};
using InstanceNorm1d = InstanceNorm;
using InstanceNorm2d = InstanceNorm;
using InstanceNorm3d = InstanceNorm;

// x / (k + alpha * mean of x^2 over `size` neighbouring channels)^beta (Krizhevsky et al., 2012): [N, C, ...] -> same.
struct LocalResponseNorm {
  int64_t size = 5;
  double alpha = 1e-4, beta = 0.75, k = 1;
  [[nodiscard]] Tensor operator()(const Tensor& x) const;
};

}  // namespace tenon::nn
