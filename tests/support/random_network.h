// A random network of images, the same for the same seed: convolutions with what may stand behind and between them, as
// programs and compiled functions put it together. What fuzz tests run in several ways.
#pragma once

#include <algorithm>
#include <cmath>
#include <random>

#include "tenon/tenon.h"

namespace tenon::testing_support {

class RandomNetwork {
 public:
  // Its weights are made by the first call.
  explicit RandomNetwork(uint64_t seed, DType dtype, int layers = 14) : seed_(seed), layers_(layers), dtype_(dtype) {}

  // What it is made to be called with: images, an image in another layout and a number for each channel.
  [[nodiscard]] Tensors inputs(int64_t examples) {
    random_.seed(seed_ * 3 + 1);
    const int64_t side = pick(3) == 0 ? 40 + pick(24) : 5 + pick(16), channels = some_channels();
    return {made({examples, channels, side, side + pick(3)}), transpose(made({examples, side, channels, side}), 1, 2),
            made({channels, 1, 1})};
  }
  // The same calls every time; the results that are kept.
  Tensors operator()(const Tensors& inputs) { return (*this)(inputs, weights); }
  // … of other weights.
  Tensors operator()(const Tensors& inputs, const Tensors& given) {
    random_.seed(seed_);
    given_ = given;
    used_ = 0;
    scale_ = inputs[2];
    values_ = {inputs[0], inputs[1]};
    for (int i = 0; i < layers_; ++i) {
      Tensor y = layer();
      if (y.defined() && y.size() > 0 && y.size() <= kMost) values_.push_back(std::move(y));
    }
    Tensors kept;
    for (const auto& v : values_) {
      if (pick(6) == 0) kept.push_back(v);
    }
    kept.push_back(values_.back());
    if (weights.size() < given_.size()) weights = given_;
    given_.clear();
    values_.clear();
    return kept;
  }

  Tensors weights;

 private:
  static constexpr int64_t kMost = int64_t{1} << 20;  // elements of a value

  int64_t pick(int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }
  int64_t some_channels() {
    static constexpr int64_t kChannels[] = {1, 3, 4, 8, 12, 16, 20, 32, 33, 48, 64};
    return kChannels[pick(std::size(kChannels))];
  }
  // Mostly what came last.
  const Tensor& any() {
    const size_t n = values_.size();
    return pick(3) != 0 ? values_[n - 1] : values_[static_cast<size_t>(pick(static_cast<int64_t>(n)))];
  }
  [[nodiscard]] Tensor made(const Shape& shape, double most = 1) const {
    return contiguous(cast(uniform(shape, -most, most), dtype_));
  }
  // The next weight.
  Tensor weight(const Shape& shape, double most) {
    if (used_ == given_.size()) given_.push_back(made(shape, most));
    return given_[used_++];
  }
  // A value that has this shape but along `axis`; an undefined one if there is none but x.
  Tensor like(const Tensor& x, int64_t axis = -1) {
    for (int tries = 0; tries < 6; ++tries) {
      const Tensor& y = any();
      bool fits = y.ndim() == x.ndim();
      for (int64_t a = 0; fits && a < x.ndim(); ++a) fits = a == axis || y.shape(a) == x.shape(a);
      if (fits) return y;
    }
    return {};
  }

  Tensor layer() {
    const Tensor x = any();
    switch (pick(20)) {
      case 0:
        return activation(x);
      case 1:
      case 2:
        return met(x);
      case 3:
        return joined(x);
      case 4:
      case 14:
        return branches(x);
      case 15:
        return widened(x);
      case 5:
        return pooled(x);
      case 6: {
        const int64_t from = pick(x.shape(1));
        return narrow(x, 1, from, 1 + pick(x.shape(1) - from));
      }
      case 7:
        return resized(x);
      case 8:
        return pad(x, {0, 0, pick(2), pick(3)}, {0, pick(2), pick(2), 0}, Tensor(pick(2) == 0 ? 0.0 : 0.5));
      case 9:
        return x * sigmoid(convolved(relu(convolved(global_avg_pool(x), 4, {})), x.shape(1), {}));
      case 10:
        return normalized(x);
      case 11:
        return tokens(x);
      case 12:
        return transpose(x, 2, 3);
      case 13:
        return cast(cast(x, dtype_ == DType::F32 ? DType::BF16 : DType::F32) * 0.5, dtype_);
      default:
        return convolution(x);
    }
  }

  Tensor convolved(const Tensor& x, int64_t filters, ConvOptions options, int64_t window = 1) {
    const int64_t channels = x.shape(1) / options.groups;
    const double most = 1 / std::sqrt(static_cast<double>(channels * window * window));
    const Tensor w = weight({filters, channels, window, window}, 2 * most);
    return conv2d(x, w, pick(2) == 0 ? weight({filters}, 0.5) : Tensor(), options);
  }
  Tensor convolution(const Tensor& x) {
    static constexpr int64_t kWindows[] = {1, 1, 3, 3, 5};
    const int64_t window = kWindows[pick(5)], channels = x.shape(1);
    ConvOptions options{.stride = {1 + pick(4) / 3}, .padding = {pick(4) == 0 ? 0 : window / 2}};
    if (window == 3 && pick(6) == 0) options.dilation = options.padding = {2};
    if (pick(8) == 0) options.padding_high = {options.padding[0] + pick(2), options.padding[0]};
    int64_t filters = some_channels();
    if (pick(4) == 0) {
      options.groups = channels;  // depthwise
      filters = channels * (1 + pick(5) / 4);
    } else if (channels % 4 == 0 && pick(6) == 0) {
      options.groups = 4;
      filters = (filters + 3) / 4 * 4;
    }
    const int64_t reach = (window - 1) * options.dilation[0] + 1 - 2 * options.padding[0];
    if (x.shape(2) < reach || x.shape(3) < reach) return {};
    Tensor y = convolved(x, filters, options, window);
    if (pick(3) == 0) y = normalized(y);
    if (pick(2) == 0) y = activation(y);
    return pick(4) == 0 ? met(y) : y;
  }
  Tensor activation(const Tensor& x) {
    switch (pick(8)) {
      case 0:
        return relu6(x);
      case 1:
        return silu(x);
      case 2:
        return gelu(x, pick(2) == 0);
      case 3:
        return leaky_relu(x, 0.1);
      case 4:
        return x * sigmoid(x);
      case 5:
        return clamp(x, Tensor(-0.5), Tensor(0.75));
      default:
        return relu(x);
    }
  }
  // With a number for each channel or for each of every example, with a number, with a value of the same shape.
  Tensor met(const Tensor& x) {
    const int64_t channels = x.shape(1);
    switch (pick(7)) {
      case 0:
        return x * (channels == scale_.shape(0) ? scale_ : weight({channels, 1, 1}, 1.5));
      case 1:
        return weight({channels, 1, 1}, 0.5) - x;
      case 2:
        return x * 0.75;
      case 3:
        return x + global_max_pool(x);
      case 4:
        return x + weight({1, channels, x.shape(2), x.shape(3)}, 0.5);
      default:
        break;
    }
    const Tensor other = like(x);
    if (!other.defined()) return x + x;
    return pick(3) == 0 ? other * x : pick(2) == 0 ? relu(x + other) : other + x;
  }
  Tensor joined(const Tensor& x) {
    const int64_t axis = pick(4) == 0 ? 2 + pick(2) : 1;
    Tensors parts{x};
    while (parts.size() < 4 && pick(3) != 0) {
      Tensor other = like(x, axis);
      Shape shape(x.shape().begin(), x.shape().end());
      shape[static_cast<size_t>(axis)] = 1 + pick(9);
      if (pick(8) == 0) other = weight(shape, 1);
      if (other.defined()) parts.insert(parts.begin() + pick(static_cast<int64_t>(parts.size()) + 1), other);
    }
    return concat(parts, axis);
  }
  // To many channels, each by itself, and back: large values that are read once.
  Tensor widened(const Tensor& x) {
    const int64_t wide = x.shape(2) > 30 ? 96 : 24, back = pick(2) == 0 ? x.shape(1) : some_channels();
    const ConvOptions apart{.stride = {1 + pick(2)}, .padding = {1}, .groups = wide};
    const Tensor y = convolved(activation(convolved(activation(convolved(x, wide, {})), wide, apart, 3)), back, {});
    return y.shape() == x.shape() ? y + x : y;
  }
  // Several convolutions of x side by side, then one of all.
  Tensor branches(const Tensor& x) {
    Tensors parts;
    const int64_t count = 2 + pick(3);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t window = 1 + 2 * pick(2), filters = some_channels();
      Tensor y = convolved(x, filters, {.padding = {window / 2}}, window);
      if (pick(2) == 0) y = activation(y);
      if (pick(6) == 0) y = max_pool2d(y, {3}, {.stride = {1}, .padding = {1}});
      parts.push_back(pick(5) == 0 ? concat({y, x}, 1) : y);
    }
    if (pick(4) == 0) parts.push_back(x);
    if (pick(6) == 0) parts.push_back(weight({x.shape(0), 2, x.shape(2), x.shape(3)}, 1));
    const Tensor all = concat(parts, 1);
    const int64_t filters = some_channels();
    return pick(4) == 0 ? all : convolved(pick(3) == 0 ? relu(all) : all, filters, {});
  }
  Tensor pooled(const Tensor& x) {
    const int64_t window = 2 + pick(2);
    if (x.shape(2) < window || x.shape(3) < window) return {};
    const Ints stride{1 + pick(2)}, padding{pick(2)};
    const bool ceil = pick(4) == 0;
    if (pick(2) == 0) return max_pool2d(x, {window}, {.stride = stride, .padding = padding, .ceil_mode = ceil});
    return avg_pool2d(x, {window},
                      {.stride = stride, .padding = padding, .ceil_mode = ceil, .count_include_pad = pick(2) == 0});
  }
  Tensor resized(const Tensor& x) {
    static constexpr InterpolateMode kModes[] = {InterpolateMode::Nearest, InterpolateMode::Linear,
                                                 InterpolateMode::Cubic};
    return interpolate(x, {.size = {1 + pick(2 * x.shape(2)), 2 * x.shape(3)}, .mode = kModes[pick(3)]});
  }
  Tensor normalized(const Tensor& x) {
    const int64_t c = x.shape(1);
    switch (pick(5)) {
      case 0:
        return transpose(layer_norm(transpose(x, 1, 3), weight({c}, 1), weight({c}, 1)), 1, 3);
      case 1:
        return group_norm(x, c % 4 == 0 ? 4 : 1, weight({c}, 1), weight({c}, 1));
      default:
        return batch_norm_infer(x, weight({c}, 0.2), abs(weight({c}, 1)) + 0.5, weight({c}, 1), weight({c}, 1));
    }
  }
  // Places as a sequence: a product, or attention.
  Tensor tokens(const Tensor& x) {
    const int64_t n = x.shape(0), c = x.shape(1), places = x.shape(2) * x.shape(3);
    const Tensor rows = transpose(reshape(x, {n, c, places}), 1, 2);
    if (pick(2) == 0 || places > 400) {
      const int64_t width = some_channels();
      const Tensor y = matmul(rows, weight({c, width}, 1 / std::sqrt(static_cast<double>(c)))) + weight({width}, 0.5);
      return reshape(transpose(activation(y), 1, 2), {n, width, x.shape(2), x.shape(3)});
    }
    const int64_t heads = c % 4 == 0 ? 4 : 1;
    const auto split = [&](const Tensor& t) { return transpose(reshape(t, {n, places, heads, c / heads}), 1, 2); };
    const Tensor k = matmul(rows, weight({c, c}, 1 / std::sqrt(static_cast<double>(c))));
    const Tensor y = scaled_dot_product_attention(split(rows), split(k), split(rows), {}, {.causal = pick(2) == 0});
    return reshape(transpose(reshape(transpose(y, 1, 2), {n, places, c}), 1, 2), {n, c, x.shape(2), x.shape(3)});
  }

  uint64_t seed_;
  int layers_;
  DType dtype_;
  std::mt19937_64 random_;
  Tensors values_, given_;
  Tensor scale_;
  size_t used_ = 0;
};

}  // namespace tenon::testing_support
