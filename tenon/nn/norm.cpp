#include "tenon/nn/norm.h"

#include <fmt/format.h>

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/nn/check.h"
#include "tenon/nn/init.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/normalization.h"
#include "tenon/ops/reduce.h"
#include "tenon/trace/layer_scope.h"
#include "tenon/trace/state.h"

namespace tenon::nn {
namespace {

Tensor value_or_none(const Variable& v) { return v.defined() ? v.value() : Tensor(); }

// Moves running statistics towards those of this batch; the variance becomes the unbiased one of `count` values.
void track(Variable mean, Variable variance, Variable batches, const Tensor& new_mean, const Tensor& new_variance,
           int64_t count, double momentum) {
  const double unbiased = static_cast<double>(count) / static_cast<double>(count - 1);
  mean.set(lerp(mean.take(), new_mean, momentum));
  variance.set(lerp(variance.take(), new_variance * unbiased, momentum));
  if (batches.defined()) batches.set(batches.take() + 1);
}

}  // namespace

LayerNorm::LayerNorm(const Shape& normalized, NormOptions options) : shape(normalized), epsilon(options.epsilon) {
  for (const int64_t extent : shape) require_at_least("LayerNorm", "width", extent, 1);
  if (!options.affine) return;
  weight = Variable(init::ones(shape, options.dtype));
  if (options.bias) bias = Variable(init::zeros(shape, options.dtype));
}

Tensor LayerNorm::operator()(const Tensor& x) const {
  const trace::LayerScope scope(weight);
  const auto rank = static_cast<int64_t>(shape.size());
  for (int64_t i = 1; i <= rank; ++i)
    require_extent(layer_label("LayerNorm", weight), x, -i, shape[static_cast<size_t>(rank - i)],
                   "[..., " + to_string(shape).substr(1));
  if (weight.defined()) return layer_norm(x, weight, value_or_none(bias), epsilon);
  return layer_norm(x, ones(shape, x.dtype()), {}, epsilon);
}

RMSNorm::RMSNorm(int64_t width, RMSNormOptions options) : epsilon(options.epsilon) {
  require_at_least("RMSNorm", "width", width, 1);
  weight = Variable(init::ones({width}, options.dtype));
}

Tensor RMSNorm::operator()(const Tensor& x) const {
  const trace::LayerScope scope(weight);
  require_extent(layer_label("RMSNorm", weight), x, -1, weight.shape()[0], fmt::format("[..., {}]", weight.shape()[0]));
  return rms_norm(x, weight, epsilon);
}

GroupNorm::GroupNorm(int64_t group_count, int64_t channels, NormOptions options)
    : groups(group_count), epsilon(options.epsilon) {
  require_at_least("GroupNorm", "groups", groups, 1);
  require_at_least("GroupNorm", "channels", channels, 1);
  if (channels % groups != 0)
    throw ValueError({"GroupNorm",
                      "the channels do not divide into the groups",
                      fmt::format("a divisor of {}", channels),
                      std::to_string(groups),
                      {}});
  if (!options.affine) return;
  weight = Variable(init::ones({channels}, options.dtype));
  if (options.bias) bias = Variable(init::zeros({channels}, options.dtype));
}

Tensor GroupNorm::operator()(const Tensor& x) const {
  const trace::LayerScope scope(weight);
  if (weight.defined()) require_extent(layer_label("GroupNorm", weight), x, 1, weight.shape()[0], "[N, channels, ...]");
  return group_norm(x, groups, value_or_none(weight), value_or_none(bias), epsilon);
}

BatchNorm::BatchNorm(int64_t channels, BatchNormOptions options)
    : epsilon(options.epsilon), momentum(options.momentum) {
  require_at_least("BatchNorm", "channels", channels, 1);
  require_probability("BatchNorm momentum", momentum);
  if (options.affine) {
    weight = Variable(init::ones({channels}, options.dtype));
    bias = Variable(init::zeros({channels}, options.dtype));
  }
  running_mean = Variable(init::zeros({channels}, options.dtype), false);
  running_var = Variable(init::ones({channels}, options.dtype), false);
  num_batches_tracked = Variable(zeros({}, DType::I64), false);
}

Tensor BatchNorm::operator()(const Tensor& x) const {
  const trace::LayerScope scope(running_mean);
  const int64_t channels = running_mean.shape()[0];
  require_extent(layer_label("BatchNorm", running_mean), x, 1, channels, fmt::format("[N, {}, ...]", channels));
  if (!mode.training())
    return batch_norm_infer(x, running_mean, running_var, value_or_none(weight), value_or_none(bias), epsilon);
  const int64_t count = x.size() / channels;
  if (count < 2)
    throw ValueError({layer_label("BatchNorm", running_mean), "one value for each channel has no variance",
                      "at least 2 values per channel", std::to_string(count),
                      "nn::eval(model) to use running statistics"});
  BatchNormResult r = batch_norm_train(x, value_or_none(weight), value_or_none(bias), epsilon);
  const NoGrad no_grad;
  track(running_mean, running_var, num_batches_tracked, r.mean, r.variance, count, momentum);
  return r.y;
}

InstanceNorm::InstanceNorm(int64_t channel_count, InstanceNormOptions given) : channels(channel_count), options(given) {
  require_at_least("InstanceNorm", "channels", channels, 1);
  require_probability("InstanceNorm momentum", options.momentum);
  if (options.affine) {
    weight = Variable(init::ones({channels}, options.dtype));
    bias = Variable(init::zeros({channels}, options.dtype));
  }
  if (!options.track_running_stats) return;
  running_mean = Variable(init::zeros({channels}, options.dtype), false);
  running_var = Variable(init::ones({channels}, options.dtype), false);
  num_batches_tracked = Variable(zeros({}, DType::I64), false);
}

Tensor InstanceNorm::operator()(const Tensor& x) const {
  const trace::LayerScope scope(weight);
  const std::string label = layer_label("InstanceNorm", weight.defined() ? weight : running_mean);
  require_rank(label, x, 3, 5, fmt::format("[N, {}, spatial...]", channels));
  require_extent(label, x, 1, channels, fmt::format("[N, {}, spatial...]", channels));
  if (options.track_running_stats && !mode.training())
    return batch_norm_infer(x, running_mean, running_var, value_or_none(weight), value_or_none(bias), options.epsilon);
  const int64_t count = x.size() / std::max<int64_t>(x.shape(0) * channels, 1);
  if (count < 2)
    throw ValueError({label,
                      "one value for each channel has no variance",
                      "at least 2 values per channel",
                      std::to_string(count),
                      {}});
  if (options.track_running_stats) {
    const NoGrad no_grad;
    Ints axes;
    for (int64_t i = 2; i < x.ndim(); ++i) axes.push_back(i);
    track(running_mean, running_var, {}, mean(mean(x, axes), {0}), mean(var(x, axes, false, 0), {0}), count,
          options.momentum);
  }
  return instance_norm(x, value_or_none(weight), value_or_none(bias), options.epsilon);
}

Tensor LocalResponseNorm::operator()(const Tensor& x) const {
  require_at_least("LocalResponseNorm", "size", size, 1);
  require_rank("LocalResponseNorm", x, 3, 5, "[N, C, spatial...]");
  Ints before(static_cast<size_t>(x.ndim()), 0), after = before;
  before[1] = size / 2;
  after[1] = (size - 1) / 2;
  const Tensor squares = pad(square(x), before, after, 0);
  Tensor total = narrow(squares, 1, 0, x.shape(1));
  for (int64_t i = 1; i < size; ++i) total = std::move(total) + narrow(squares, 1, i, x.shape(1));
  return x / power(std::move(total) * (alpha / static_cast<double>(size)) + k, beta);
}

}  // namespace tenon::nn
