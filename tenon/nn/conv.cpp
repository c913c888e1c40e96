#include "tenon/nn/conv.h"

#include <fmt/format.h>

#include <cmath>

#include "tenon/base/error.h"
#include "tenon/nn/check.h"
#include "tenon/nn/init.h"
#include "tenon/ops/convolution.h"
#include "tenon/trace/layer_scope.h"

namespace tenon::nn {

namespace {

void check_channels(const std::string& name, int64_t in_channels, int64_t out_channels, int64_t groups) {
  require_at_least(name, "in_channels", in_channels, 1);
  require_at_least(name, "out_channels", out_channels, 1);
  require_at_least(name, "groups", groups, 1);
  if (in_channels % groups != 0 || out_channels % groups != 0)
    throw ValueError({name,
                      "the channels do not divide into the groups",
                      fmt::format("a divisor of {} and {}", in_channels, out_channels),
                      std::to_string(groups),
                      {}});
}

}  // namespace

template <int N>
Conv<N>::Conv(int64_t in_channels, int64_t out_channels, Size<N> kernel, ConvLayerOptions<N> given) : options(given) {
  const std::string name = fmt::format("Conv{}d", N);
  check_channels(name, in_channels, out_channels, options.groups);
  Shape shape{out_channels, in_channels / options.groups};
  for (const int64_t extent : kernel.values) {
    require_at_least(name, "kernel", extent, 1);
    shape.push_back(extent);
  }
  const int64_t weights_each = numel(shape) / out_channels;
  const double bound = 1 / std::sqrt(static_cast<double>(weights_each));
  weight = Variable(init::uniform(shape, -bound, bound, options.dtype));
  if (options.bias) bias = Variable(init::uniform({out_channels}, -bound, bound, options.dtype));
}

template <int N>
Tensor Conv<N>::operator()(const Tensor& x) const {
  const trace::LayerScope scope(weight);
  const std::string label = layer_label(fmt::format("Conv{}d", N), weight);
  const int64_t channels = weight.shape()[1] * options.groups;
  require_rank(label, x, N + 2, N + 2, fmt::format("[N, {}, spatial...]", channels));
  require_extent(label, x, 1, channels, fmt::format("[N, {}, spatial...]", channels));
  const ConvOptions how{.stride = options.stride.ints(),
                        .padding = options.padding.ints(),
                        .dilation = options.dilation.ints(),
                        .groups = options.groups};
  const Tensor b = bias.defined() ? bias.value() : Tensor();
  if constexpr (N == 1) return conv1d(x, weight, b, how);
  if constexpr (N == 2) return conv2d(x, weight, b, how);
  if constexpr (N == 3) return conv3d(x, weight, b, how);
}

template <int N>
ConvTranspose<N>::ConvTranspose(int64_t in_channels, int64_t out_channels, Size<N> kernel,
                                ConvTransposeLayerOptions<N> given)
    : options(given) {
  const std::string name = fmt::format("ConvTranspose{}d", N);
  check_channels(name, in_channels, out_channels, options.groups);
  Shape shape{in_channels, out_channels / options.groups};
  for (const int64_t extent : kernel.values) {
    require_at_least(name, "kernel", extent, 1);
    shape.push_back(extent);
  }
  const double bound = 1 / std::sqrt(static_cast<double>(numel(shape)) / static_cast<double>(in_channels));
  weight = Variable(init::uniform(shape, -bound, bound, options.dtype));
  if (options.bias) bias = Variable(init::uniform({out_channels}, -bound, bound, options.dtype));
}

template <int N>
Tensor ConvTranspose<N>::operator()(const Tensor& x) const {
  const trace::LayerScope scope(weight);
  const std::string label = layer_label(fmt::format("ConvTranspose{}d", N), weight);
  const int64_t channels = weight.shape()[0];
  require_rank(label, x, N + 2, N + 2, fmt::format("[N, {}, spatial...]", channels));
  require_extent(label, x, 1, channels, fmt::format("[N, {}, spatial...]", channels));
  const ConvTransposeOptions how{.stride = options.stride.ints(),
                                 .padding = options.padding.ints(),
                                 .output_padding = options.output_padding.ints(),
                                 .dilation = options.dilation.ints(),
                                 .groups = options.groups};
  const Tensor b = bias.defined() ? bias.value() : Tensor();
  if constexpr (N == 1) return conv_transpose1d(x, weight, b, how);
  if constexpr (N == 2) return conv_transpose2d(x, weight, b, how);
  if constexpr (N == 3) return conv_transpose3d(x, weight, b, how);
}

template class ConvTranspose<1>;
template class ConvTranspose<2>;
template class ConvTranspose<3>;
template class Conv<1>;
template class Conv<2>;
template class Conv<3>;

}  // namespace tenon::nn
