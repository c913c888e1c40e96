// Layers: convolution, pooling, normalisation, recurrent nets, attention, losses.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "tenon/formats/onnx/call.h"
#include "tenon/ops/attention.h"
#include "tenon/ops/convolution.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/indexing.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/normalization.h"
#include "tenon/ops/pooling.h"
#include "tenon/ops/random.h"
#include "tenon/ops/recurrent.h"
#include "tenon/ops/reduce.h"
#include "tenon/ops/softmax.h"

namespace tenon::formats::onnx {
namespace {

// The window options that convolutions and pools share.
struct Windows {
  Ints window, stride, low, high, dilation;
};

Windows windows_of(Call& c, const Tensor& x, Ints window) {
  const size_t rank = window.size();
  const auto list = [&](std::string_view name, int64_t fallback) {
    auto v = c.integers_attribute(name);
    if (v.empty()) v.assign(rank, fallback);
    if (v.size() != rank) c.fail(std::string(name) + " has another number of axes");
    return ints_of(v);
  };
  Windows w{window, list("strides", 1), Ints(rank, 0), Ints(rank, 0), list("dilations", 1)};
  const std::string mode = c.text_attribute("auto_pad", "NOTSET");
  const auto pads = c.integers_attribute("pads");
  if (mode == "SAME_UPPER" || mode == "SAME_LOWER") {
    for (size_t k = 0; k < rank; ++k) {
      const int64_t extent = x.shape(static_cast<int64_t>(k) + 2);
      const int64_t out = (extent + w.stride[k] - 1) / w.stride[k];
      const int64_t total =
          std::max<int64_t>(0, (out - 1) * w.stride[k] + (window[k] - 1) * w.dilation[k] + 1 - extent);
      const int64_t small = total / 2, large = total - small;
      w.low[k] = mode == "SAME_UPPER" ? small : large;
      w.high[k] = mode == "SAME_UPPER" ? large : small;
    }
  } else if (mode != "VALID" && !pads.empty()) {
    if (pads.size() != 2 * rank) c.fail("pads has another number of axes");
    for (size_t k = 0; k < rank; ++k) {
      w.low[k] = pads[k];
      w.high[k] = pads[k + rank];
    }
  }
  return w;
}

Ints spatial(const Tensor& weight) { return {weight.shape().begin() + 2, weight.shape().end()}; }

ConvOptions conv_options(Call& c, const Tensor& x, const Tensor& weight) {
  if (weight.ndim() < 3 || weight.ndim() > 5) c.unsupported("a convolution over another number of axes than 1 to 3");
  const Windows w = windows_of(c, x, spatial(weight));
  return {.stride = w.stride,
          .padding = w.low,
          .padding_high = w.high,
          .dilation = w.dilation,
          .groups = c.integer_attribute("group", 1)};
}

Tensor convolve(Call& c, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const ConvOptions options = conv_options(c, x, weight);
  switch (weight.ndim()) {
    case 3:
      return conv1d(x, weight, bias, options);
    case 4:
      return conv2d(x, weight, bias, options);
    default:
      return conv3d(x, weight, bias, options);
  }
}
Values conv(Call& c) { return {convolve(c, c.tensor(0), c.tensor(1), c.tensor_or_none(2))}; }

Values conv_transpose(Call& c) {
  const Tensor x = c.tensor(0), weight = c.tensor(1), bias = c.tensor_or_none(2);
  const Ints window = spatial(weight);
  const size_t rank = window.size();
  const Windows w = windows_of(c, x, window);
  ConvTransposeOptions options{.stride = w.stride,
                               .padding = w.low,
                               .padding_high = w.high,
                               .output_padding = Ints(rank, 0),
                               .dilation = w.dilation,
                               .groups = c.integer_attribute("group", 1)};
  const auto extra = c.integers_attribute("output_padding"), wanted = c.integers_attribute("output_shape");
  if (!extra.empty()) options.output_padding = ints_of(extra);
  const std::string mode = c.text_attribute("auto_pad", "NOTSET");
  const bool same = mode == "SAME_UPPER" || mode == "SAME_LOWER";
  Ints grow(rank, 0);
  if (same || !wanted.empty()) {
    for (size_t k = 0; k < rank; ++k) {
      const int64_t extent = x.shape(static_cast<int64_t>(k) + 2);
      const int64_t out = wanted.empty() ? extent * w.stride[k] : wanted[wanted.size() - rank + k];
      const int64_t full = (extent - 1) * w.stride[k] + options.output_padding[k] + (window[k] - 1) * w.dilation[k] + 1;
      const int64_t total = full - out;
      // The specification puts the odd one at the end unless SAME_UPPER is asked for.
      const int64_t half = (total - (total < 0 ? 1 : 0)) / 2;  // towards minus infinity
      options.padding[k] = mode == "SAME_UPPER" ? half : total - half;
      options.padding_high[k] = total - options.padding[k];
    }
  }
  // output_padding beyond the stride is zeros at the high end.
  for (size_t k = 0; k < rank; ++k) {
    if (options.output_padding[k] >= w.stride[k]) {
      grow[k] = options.output_padding[k];
      options.output_padding[k] = 0;
    }
    if (options.padding_high[k] < 0) {
      grow[k] -= options.padding_high[k];
      options.padding_high[k] = 0;
    }
  }
  Tensor y = rank == 1   ? conv_transpose1d(x, weight, {}, options)
             : rank == 2 ? conv_transpose2d(x, weight, {}, options)
             : rank == 3 ? conv_transpose3d(x, weight, {}, options)
                         : Tensor();
  if (!y.defined()) c.unsupported("a convolution over another number of axes than 1 to 3");
  if (std::any_of(grow.begin(), grow.end(), [](int64_t g) { return g != 0; })) {
    y = pad(y, Ints(rank + 2, 0), joined({0, 0}, grow));
  }
  if (bias.defined()) {
    Shape column(rank + 1, 1);
    column[0] = bias.size();
    y = y + reshape(bias, column);
  }
  return {y};
}

Values conv_integer(Call& c) {
  const auto zero = [&](size_t input) {
    const Tensor z = c.tensor_or_none(input);
    return z.defined() && z.size() == 1 ? reshape(z, {}) : z;
  };
  const Tensor x = c.tensor(0), weight = c.tensor(1);
  return {convolution_integer(x, weight, {zero(2), zero(3)}, conv_options(c, x, weight))};
}

// ---- pooling ----
Ints kernel_shape(Call& c) {
  const auto window = c.integers_attribute("kernel_shape");
  if (window.empty()) c.fail("the attribute kernel_shape is missing");
  return ints_of(window);
}

// Pools work on real numbers; whole ones go there and back.
Tensor real(const Tensor& x) { return is_float(x.dtype()) ? x : cast(x, f32); }

Values max_pool(Call& c) {
  const Tensor x = c.tensor(0);
  const Windows w = windows_of(c, x, kernel_shape(c));
  const MaxPoolResult r = max_pool_with_indices(real(x), w.window,
                                                {.stride = w.stride,
                                                 .padding = w.low,
                                                 .padding_high = w.high,
                                                 .dilation = w.dilation,
                                                 .ceil_mode = c.integer_attribute("ceil_mode", 0) != 0});
  if (c.node.outputs.size() < 2) return {cast(r.values, x.dtype())};
  // ONNX counts positions over the whole tensor, and may count columns first.
  Tensor place = cast(r.indices, i64);
  Shape extents(x.shape().begin() + 2, x.shape().end());
  if (c.integer_attribute("storage_order", 0) != 0) {
    Tensors parts;
    for (size_t k = extents.size(); k-- > 0;) {
      parts.insert(parts.begin(), remainder(place, extents[k]));
      place = floor_divide(place, extents[k]);
    }
    place = zeros(r.indices.shape(), i64);
    for (size_t k = extents.size(); k-- > 0;) place = place * extents[k] + parts[k];
  }
  const Tensor plane = iota(place.shape(), 0) * x.shape(1) + iota(place.shape(), 1);
  return {cast(r.values, x.dtype()), place + plane * numel(extents)};
}

Values max_unpool_rule(Call& c) {
  const Tensor x = c.tensor(0), places = c.tensor(1);
  Shape shape = x.shape();
  if (c.has(2)) {
    shape = ints_of(c.integers(2));
  } else {
    const Ints window = kernel_shape(c);
    auto strides = c.integers_attribute("strides");
    if (strides.empty()) strides.assign(window.size(), 1);
    auto pads = c.integers_attribute("pads");
    if (pads.empty()) pads.assign(2 * window.size(), 0);
    for (size_t k = 0; k < window.size(); ++k)
      shape[k + 2] = (shape[k + 2] - 1) * strides[k] - pads[k] - pads[k + window.size()] + window[k];
  }
  // The positions count in the whole result.
  const Tensor y = max_unpool(reshape(x, {1, -1}), reshape(places, {1, -1}), {1}, {.extents = {numel(shape)}});
  return {reshape(y, shape)};
}

Tensor average(const Tensor& x, const Windows& w, bool ceil_mode, bool with_padding) {
  const AveragePoolOptions options{.stride = w.stride,
                                   .padding = w.low,
                                   .padding_high = w.high,
                                   .ceil_mode = ceil_mode,
                                   .count_include_pad = with_padding};
  return w.window.size() == 1   ? avg_pool1d(x, w.window, options)
         : w.window.size() == 2 ? avg_pool2d(x, w.window, options)
                                : avg_pool3d(x, w.window, options);
}

// Sums over windows, by a convolution with ones: it knows dilation and any padding.
Tensor window_sums(const Tensor& x, const Windows& w) {
  const int64_t channels = x.shape(1);
  const Shape shape = joined({channels, 1}, w.window);
  const ConvOptions options{
      .stride = w.stride, .padding = w.low, .padding_high = w.high, .dilation = w.dilation, .groups = channels};
  const Tensor one = ones(shape, x.dtype());
  return w.window.size() == 1   ? conv1d(x, one, {}, options)
         : w.window.size() == 2 ? conv2d(x, one, {}, options)
                                : conv3d(x, one, {}, options);
}

// The padding at the high end that makes a last window start where ceil_mode wants one.
Ints ceil_padding(const Tensor& x, const Windows& w) {
  Ints extra(w.window.size(), 0);
  for (size_t k = 0; k < w.window.size(); ++k) {
    const int64_t extent = x.shape(static_cast<int64_t>(k) + 2), reach = (w.window[k] - 1) * w.dilation[k] + 1;
    const int64_t room = extent + w.low[k] + w.high[k] - reach;
    int64_t out = (room + w.stride[k] - 1) / w.stride[k] + 1;
    if ((out - 1) * w.stride[k] >= extent + w.low[k]) --out;
    extra[k] = std::max<int64_t>(0, (out - 1) * w.stride[k] + reach - (extent + w.low[k] + w.high[k]));
  }
  return extra;
}

Values average_pool(Call& c) {
  const Tensor x = c.tensor(0);
  Windows w = windows_of(c, x, kernel_shape(c));
  const bool ceil_mode = c.integer_attribute("ceil_mode", 0) != 0;
  const bool with_padding = c.integer_attribute("count_include_pad", 0) != 0;
  const bool dilated = std::any_of(w.dilation.begin(), w.dilation.end(), [](int64_t d) { return d != 1; });
  const bool oversized = [&] {
    for (size_t k = 0; k < w.window.size(); ++k) {
      if (2 * w.low[k] > w.window[k] || 2 * w.high[k] > w.window[k]) return true;
    }
    return false;
  }();
  if (!dilated && !oversized) return {average(x, w, ceil_mode, with_padding)};
  // Ones where an element counts: also in the padding, but never where only ceil_mode reaches.
  Tensor counted = ones(x.shape(), x.dtype());
  Tensor data = x;
  if (with_padding) {
    data = pad(x, joined({0, 0}, w.low), joined({0, 0}, w.high));
    counted = ones(data.shape(), x.dtype());
  }
  const Ints extra = ceil_mode ? ceil_padding(x, w) : Ints(w.window.size(), 0);
  if (with_padding) w.low = w.high = Ints(w.window.size(), 0);
  for (size_t k = 0; k < extra.size(); ++k) w.high[k] += extra[k];
  return {window_sums(data, w) / window_sums(counted, w)};
}

Values lp_pool(Call& c) {
  const Tensor x = c.tensor(0);
  Windows w = windows_of(c, x, kernel_shape(c));
  const double p = c.opset == 1 ? c.real_attribute("p", 2) : static_cast<double>(c.integer_attribute("p", 2));
  if (c.integer_attribute("ceil_mode", 0) != 0) {
    const Ints extra = ceil_padding(x, w);
    for (size_t k = 0; k < extra.size(); ++k) w.high[k] += extra[k];
  }
  return {power(window_sums(power(abs(x), p), w), 1 / p)};
}

Ints spatial_axes(const Tensor& x) {
  Ints axes;
  for (int64_t k = 2; k < x.ndim(); ++k) axes.push_back(k);
  return axes;
}
Values global_average(Call& c) {
  const Tensor x = c.tensor(0);
  return {mean(x, spatial_axes(x), true)};
}
Values global_max(Call& c) {
  const Tensor x = c.tensor(0);
  return {max(x, spatial_axes(x), true)};
}
Values global_lp(Call& c) {
  const Tensor x = c.tensor(0);
  return {norm(x, static_cast<double>(c.integer_attribute("p", 2)), spatial_axes(x), true)};
}

// ---- normalisation ----
Tensor per_channel(const Tensor& v, const Tensor& x) {
  Shape column(static_cast<size_t>(x.ndim()), 1);
  column[1] = v.size();
  return reshape(v, column);
}

Values batch_normalization(Call& c) {
  const Tensor x = c.tensor(0), scale = c.tensor(1), bias = c.tensor(2), mean_in = c.tensor(3), var_in = c.tensor(4);
  const double epsilon = c.real_attribute("epsilon", 1e-5), momentum = c.real_attribute("momentum", 0.9);
  const bool training = c.integer_attribute("training_mode", 0) != 0 ||
                        (c.opset < 7 && c.integer_attribute("is_test", 0) == 0 && c.node.outputs.size() > 1);
  if (!training) {
    const DType stat = mean_in.dtype();
    // Up to opset 8, "spatial" 0 has one number for each element instead of each channel.
    const auto spread = [&](const Tensor& v) { return v.ndim() > 1 ? unsqueeze(v, {0}) : per_channel(v, x); };
    const Tensor y = (cast(x, stat) - spread(mean_in)) / sqrt(spread(var_in) + epsilon);
    return {cast(y * spread(cast(scale, stat)) + spread(cast(bias, stat)), x.dtype())};
  }
  Ints axes{0};
  for (int64_t k = 2; k < x.ndim(); ++k) axes.push_back(k);
  const Tensor m = mean(x, axes), v = var(x, axes, false, 0);
  const Tensor y =
      (x - per_channel(m, x)) / sqrt(per_channel(v, x) + epsilon) * per_channel(scale, x) + per_channel(bias, x);
  return {y, mean_in * momentum + m * (1 - momentum), var_in * momentum + v * (1 - momentum)};
}

Values layer_normalization(Call& c) {
  const Tensor x = c.tensor(0);
  const int64_t axis = normalize_axis(c.where, c.integer_attribute("axis", -1), x.ndim());
  const double epsilon = c.real_attribute("epsilon", 1e-5);
  Ints axes;
  for (int64_t k = axis; k < x.ndim(); ++k) axes.push_back(k);
  const Tensor wide = x.dtype() == DType::F64 ? x : cast(x, f32);
  const Tensor m = mean(wide, axes, true), inverse = reciprocal(sqrt(var(wide, axes, true, 0) + epsilon));
  Tensor y = cast((wide - m) * inverse, x.dtype());
  if (c.has(1)) y = y * c.tensor(1);
  if (c.has(2)) y = y + c.tensor(2);
  return {y, m, inverse};
}

Values rms_normalization(Call& c) {
  const Tensor x = c.tensor(0);
  const int64_t axis = normalize_axis(c.where, c.integer_attribute("axis", -1), x.ndim());
  Ints axes;
  for (int64_t k = axis; k < x.ndim(); ++k) axes.push_back(k);
  const Tensor wide = x.dtype() == DType::F64 ? x : cast(x, f32);
  const Tensor y = wide / sqrt(mean(square(wide), axes, true) + c.real_attribute("epsilon", 1e-5));
  return {cast(y, x.dtype()) * c.tensor(1)};
}

Values group_normalization(Call& c) {
  const Tensor x = c.tensor(0), scale = c.tensor(1), bias = c.tensor(2);
  const int64_t groups = c.integer_attribute("num_groups", 1);
  if (groups < 1 || x.shape(1) % groups != 0) c.fail("the channels do not divide into the groups");
  const Tensor rows = cast(reshape(x, {x.shape(0), groups, -1}), x.dtype() == DType::F64 ? f64 : f32);
  const Tensor m = mean(rows, {2}, true), v = var(rows, {2}, true, 0);
  const Tensor y = cast(reshape((rows - m) / sqrt(v + c.real_attribute("epsilon", 1e-5)), x.shape()), x.dtype());
  const auto spread = [&](const Tensor& s) {
    return per_channel(s.size() == x.shape(1) ? s : repeat_interleave(s, x.shape(1) / groups, 0), x);
  };
  return {y * spread(scale) + spread(bias)};
}

Values instance_normalization(Call& c) {
  const Tensor x = c.tensor(0);
  const Ints axes = spatial_axes(x);
  const Tensor m = mean(x, axes, true), v = var(x, axes, true, 0);
  const Tensor y = (x - m) / sqrt(v + c.real_attribute("epsilon", 1e-5));
  return {y * per_channel(c.tensor(1), x) + per_channel(c.tensor(2), x)};
}

Values mean_variance(Call& c) {
  const Tensor x = c.tensor(0);
  const Ints axes = ints_of(c.integers_attribute("axes", {0, 2, 3}));
  const Tensor m = mean(x, axes, true);
  const Tensor deviation = sqrt(mean(square(x), axes, true) - square(m));
  return {(x - m) / (deviation + 1e-9)};
}

Values lp_normalization(Call& c) {
  const Tensor x = c.tensor(0);
  const Tensor length =
      norm(x, static_cast<double>(c.integer_attribute("p", 2)), {c.integer_attribute("axis", -1)}, true);
  return {where(equal(length, 0), zeros_like(x), x / length)};
}

// x / (bias + alpha / size * sum of squares over neighbouring channels)^beta (Krizhevsky et al., NeurIPS 2012).
Values local_response(Call& c) {
  const Tensor x = c.tensor(0);
  const int64_t size = c.integer_attribute("size", 1), channels = x.shape(1), low = (size - 1) / 2,
                high = size - 1 - low;
  Ints before(static_cast<size_t>(x.ndim()), 0), after(static_cast<size_t>(x.ndim()), 0);
  before[1] = low;
  after[1] = high;
  const Tensor squares = pad(square(x), before, after);
  Tensor total = narrow(squares, 1, 0, channels);
  for (int64_t k = 1; k < size; ++k) total = total + narrow(squares, 1, k, channels);
  const double alpha = c.real_attribute("alpha", 1e-4), beta = c.real_attribute("beta", 0.75);
  return {x / power(total * (alpha / static_cast<double>(size)) + c.real_attribute("bias", 1), beta)};
}

Values dropout_rule(Call& c) {
  const Tensor x = c.tensor(0);
  const double ratio = c.opset >= 12 ? (c.has(1) ? c.number(1) : 0.5) : c.real_attribute("ratio", 0.5);
  const bool training = c.opset >= 12 && c.has(2) && c.value(2).item<bool>();
  if (!training || ratio == 0) return {x, ones(x.shape(), boolean)};
  c.draws();
  const Tensor keep = bernoulli(1 - ratio, x.shape());
  return {where(keep, x / (1 - ratio), zeros_like(x)), keep};
}

// ---- recurrent nets ----
using Activation = Tensor (*)(const Tensor& x, double alpha, double beta);
struct ActivationRow {
  std::string_view name;
  Activation apply;
  double alpha, beta;
};
constexpr std::array kActivations{
    ActivationRow{"Sigmoid", [](const Tensor& x, double, double) { return sigmoid(x); }, 0, 0},
    ActivationRow{"Tanh", [](const Tensor& x, double, double) { return tanh(x); }, 0, 0},
    ActivationRow{"Relu", [](const Tensor& x, double, double) { return relu(x); }, 0, 0},
    ActivationRow{"Affine", [](const Tensor& x, double a, double b) { return x * a + b; }, 1, 0},
    ActivationRow{"LeakyRelu", [](const Tensor& x, double a, double) { return leaky_relu(x, a); }, 0.01, 0},
    ActivationRow{"ThresholdedRelu", [](const Tensor& x, double a, double) { return where(x > a, x, 0); }, 1, 0},
    ActivationRow{"ScaledTanh", [](const Tensor& x, double a, double b) { return tanh(x * b) * a; }, 1, 1},
    ActivationRow{"HardSigmoid", [](const Tensor& x, double a, double b) { return minimum(maximum(x * a + b, 0), 1); },
                  0.2, 0.5},
    ActivationRow{"Elu", [](const Tensor& x, double a, double) { return elu(x, a); }, 1, 0},
    ActivationRow{"Softsign", [](const Tensor& x, double, double) { return softsign(x); }, 0, 0},
    ActivationRow{"Softplus", [](const Tensor& x, double, double) { return softplus(x); }, 0, 0},
};

class Recurrent {
 public:
  Recurrent(Call& c, int64_t gates, std::vector<std::string> defaults) : c_(c), gates_(gates) {
    names_ = std::move(defaults);
    if (const auto* a = c.attribute("activations")) names_ = a->strings;
    if (const auto* a = c.attribute("activation_alpha")) alphas_ = a->floats;
    if (const auto* a = c.attribute("activation_beta")) betas_ = a->floats;
    clip_ = c.real_attribute("clip", 0);
  }

  // The k-th activation of this direction.
  [[nodiscard]] Tensor activate(size_t k, Tensor x) const {
    const size_t i = k + direction_ * per_direction_;
    if (clip_ > 0) x = minimum(maximum(x, -clip_), clip_);
    for (const auto& row : kActivations) {
      if (i < names_.size() && row.name == names_[i])
        return row.apply(x, i < alphas_.size() ? static_cast<double>(alphas_[i]) : row.alpha,
                         i < betas_.size() ? static_cast<double>(betas_[i]) : row.beta);
    }
    c_.unsupported("activation '" + (i < names_.size() ? names_[i] : std::string()) + "'");
  }

  // step(x_t, states) gives the next states; the first is the output. Results: Y and the last of each state.
  template <class Step>
  Values run(size_t states, size_t activations, const Step& step) {
    per_direction_ = activations;
    Tensor x = c_.tensor(0);
    const bool batch_first = c_.integer_attribute("layout", 0) != 0;
    if (batch_first) x = transpose(x, 0, 1);
    const std::string direction = c_.text_attribute("direction", "forward");
    const size_t directions = direction == "bidirectional" ? 2 : 1;
    const int64_t batch = x.shape(1), hidden = c_.tensor(2).shape(-1);
    const Tensor lengths = c_.has(4) ? cast(c_.tensor(4), i64) : Tensor();
    Tensors sides;
    std::vector<Tensors> last(states);
    for (direction_ = 0; direction_ < directions; ++direction_) {
      const bool backwards = direction == "reverse" || direction_ == 1;
      const auto d = static_cast<int64_t>(direction_);
      weight_ = transpose(c_.tensor(1)[d]);
      recurrence_ = transpose(c_.tensor(2)[d]);
      bias_in_ = c_.has(3) ? narrow(c_.tensor(3)[d], 0, 0, gates_ * hidden) : Tensor();
      bias_hidden_ = c_.has(3) ? narrow(c_.tensor(3)[d], 0, gates_ * hidden, gates_ * hidden) : Tensor();
      peephole_ = c_.has(7) ? c_.tensor(7)[d] : Tensor();
      Tensors now;
      for (size_t s = 0; s < states; ++s) {
        Tensor start = c_.tensor_or_none(5 + s);
        if (start.defined() && batch_first) start = transpose(start, 0, 1);
        now.push_back(start.defined() ? start[d] : zeros({batch, hidden}, x.dtype()));
      }
      // All steps' inputs in one product.
      Tensor projected = matmul(x, weight_);
      if (bias_in_.defined()) projected = std::move(projected) + bias_in_;
      RecurrenceResult r =
          tenon::recurrence([&](const Tensor& at, const Tensors& state) { return step(*this, at, state); }, projected,
                            std::move(now), lengths, backwards);
      now = std::move(r.states);
      sides.push_back(std::move(r.y));
      for (size_t s = 0; s < states; ++s) last[s].push_back(now[s]);
    }
    Tensor y = stack(sides, 1);  // [steps, directions, batch, hidden]
    Values out{batch_first ? permute(y, {2, 0, 1, 3}) : y};
    for (auto& state : last) {
      const Tensor v = stack(state, 0);
      out.emplace_back(batch_first ? transpose(v, 0, 1) : v);
    }
    return out;
  }

  // Gate inputs x W + b_in (computed before the loop) and h R + b_hidden, cut into gates.
  [[nodiscard]] Tensors from_input(const Tensor& projected) const { return gates(projected, {}); }
  [[nodiscard]] Tensors from_hidden(const Tensor& h) const { return gates(matmul(h, recurrence_), bias_hidden_); }
  // h R of one gate alone, without bias, and that bias.
  [[nodiscard]] Tensor recurrence(const Tensor& h, int64_t gate) const {
    const int64_t hidden = h.shape(-1);
    return matmul(h, narrow(recurrence_, 1, gate * hidden, hidden));
  }
  [[nodiscard]] Tensor hidden_bias(const Tensor& h, int64_t gate) const {
    const int64_t hidden = h.shape(-1);
    return bias_hidden_.defined() ? narrow(bias_hidden_, 0, gate * hidden, hidden) : Tensor(0.0);
  }
  [[nodiscard]] Tensor peephole(const Tensor& cell, int64_t gate) const {
    const int64_t hidden = cell.shape(-1);
    return peephole_.defined() ? narrow(peephole_, 0, gate * hidden, hidden) * cell : Tensor(0.0);
  }

 private:
  [[nodiscard]] Tensors gates(const Tensor& x, const Tensor& bias) const {
    return chunk(bias.defined() ? x + bias : x, gates_, -1);
  }

  Call& c_;
  int64_t gates_;
  std::vector<std::string> names_;
  std::vector<float> alphas_, betas_;
  double clip_ = 0;
  size_t direction_ = 0, per_direction_ = 1;
  Tensor weight_, recurrence_, bias_in_, bias_hidden_, peephole_;
};

Values rnn(Call& c) {
  Recurrent net(c, 1, {"Tanh", "Tanh"});
  return net.run(1, 1, [](const Recurrent& r, const Tensor& x, const Tensors& s) {
    return Tensors{r.activate(0, r.from_input(x)[0] + r.from_hidden(s[0])[0])};
  });
}

// Gates z, r, h.
Values gru(Call& c) {
  Recurrent net(c, 3, {"Sigmoid", "Tanh", "Sigmoid", "Tanh"});
  const bool reset_after = c.integer_attribute("linear_before_reset", 0) != 0;
  return net.run(1, 2, [&](const Recurrent& r, const Tensor& x, const Tensors& s) {
    const Tensors a = r.from_input(x), b = r.from_hidden(s[0]);
    const Tensor z = r.activate(0, a[0] + b[0]), reset = r.activate(0, a[1] + b[1]);
    const Tensor h = reset_after ? r.activate(1, a[2] + reset * b[2])
                                 : r.activate(1, a[2] + r.recurrence(reset * s[0], 2) + r.hidden_bias(s[0], 2));
    return Tensors{(1 - z) * h + z * s[0]};
  });
}

// Gates i, o, f, c; peepholes i, o, f.
Values lstm(Call& c) {
  Recurrent net(c, 4, {"Sigmoid", "Tanh", "Tanh", "Sigmoid", "Tanh", "Tanh"});
  const bool coupled = c.integer_attribute("input_forget", 0) != 0;
  return net.run(2, 3, [&](const Recurrent& r, const Tensor& x, const Tensors& s) {
    const Tensors a = r.from_input(x), b = r.from_hidden(s[0]);
    const Tensor i = r.activate(0, a[0] + b[0] + r.peephole(s[1], 0));
    const Tensor f = coupled ? 1 - i : r.activate(0, a[2] + b[2] + r.peephole(s[1], 2));
    const Tensor cell = f * s[1] + i * r.activate(1, a[3] + b[3]);
    const Tensor o = r.activate(0, a[1] + b[1] + r.peephole(cell, 1));
    return Tensors{o * r.activate(2, cell), cell};
  });
}

// ---- attention ----
// [batch, length, heads * width] to [batch, heads, length, width].
Tensor to_heads(Call& c, const Tensor& x, int64_t heads) {
  if (x.ndim() == 4) return x;
  if (heads < 1 || x.shape(2) % heads != 0) c.fail("the width does not divide into heads");
  return transpose(reshape(x, {x.shape(0), x.shape(1), heads, x.shape(2) / heads}), 1, 2);
}

Values attention_rule(Call& c) {
  const Tensor q0 = c.tensor(0);
  const bool flat = q0.ndim() == 3;
  Tensor q = to_heads(c, q0, c.integer_attribute("q_num_heads", 0));
  Tensor k = to_heads(c, c.tensor(1), c.integer_attribute("kv_num_heads", 0));
  Tensor v = to_heads(c, c.tensor(2), c.integer_attribute("kv_num_heads", 0));
  const int64_t past = c.has(4) ? c.tensor(4).shape(2) : 0;
  if (c.has(4)) k = concat({c.tensor(4), k}, 2);
  if (c.has(5)) v = concat({c.tensor(5), v}, 2);
  const Tensor present_k = k, present_v = v;
  const int64_t heads = q.shape(1), kv_heads = k.shape(1), lq = q.shape(2), lk = k.shape(2);
  if (kv_heads < 1 || heads % kv_heads != 0) c.fail("the query heads do not divide among the key heads");
  if (kv_heads != heads) {
    k = repeat_interleave(k, heads / kv_heads, 1);
    v = repeat_interleave(v, heads / kv_heads, 1);
  }
  const DType dtype = q.dtype();
  const auto precision = static_cast<DataType>(c.integer_attribute("softmax_precision", 0));
  const double scale =
      c.attribute("scale") ? c.real_attribute("scale", 1) : 1 / std::sqrt(static_cast<double>(q.shape(3)));
  const double root = std::sqrt(scale);
  const int64_t mode = c.integer_attribute("qk_matmul_output_mode", 0);
  Tensor scores = matmul(q * root, transpose(k * root));
  Tensor seen = scores;  // what the fourth output shows
  const double cap = c.real_attribute("softcap", 0);
  const auto capped = [&](const Tensor& s) { return cap > 0 ? tanh(s / cap) * cap : s; };
  const double never = -std::numeric_limits<double>::infinity();
  Tensor bias;
  if (c.has(3)) {
    Tensor mask = c.tensor(3);
    if (mask.dtype() == DType::Bool) mask = where(mask, full({}, 0, dtype), full({}, never, dtype));
    // A mask may cover fewer keys than there are: the others are not seen.
    if (mask.shape(-1) < lk) {
      Ints before(static_cast<size_t>(mask.ndim()), 0), after(static_cast<size_t>(mask.ndim()), 0);
      after.back() = lk - mask.shape(-1);
      mask = pad(mask, before, after, full({}, never, dtype));
    }
    bias = mask;
  }
  const auto hide = [&](const Tensor& visible) {
    const Tensor wall = where(visible, full({}, 0, dtype), full({}, never, dtype));
    bias = bias.defined() ? bias + wall : wall;
  };
  Tensor lengths = c.has(6) ? cast(c.tensor(6), i64) : Tensor();
  if (c.integer_attribute("is_causal", 0) != 0) {
    Tensor row = iota({lq, lk}, 0) + past;
    if (lengths.defined()) row = iota({lq, lk}, 0) + reshape(lengths - lq, {-1, 1, 1, 1});
    hide(iota({lq, lk}, 1) <= row);
  }
  if (lengths.defined()) hide(iota({1, 1, 1, lk}, 3) < reshape(lengths, {-1, 1, 1, 1}));
  const Tensor after_cap = capped(scores);
  Tensor after_bias = bias.defined() ? after_cap + bias : after_cap;
  const Tensor wide = precision != DataType::Undefined ? cast(after_bias, dtype_of(precision, c.where)) : after_bias;
  // A query that sees nothing gives zeros.
  const Tensor top = max(wide, {-1}, true);
  const Tensor safe = where(tenon::isinf(top), zeros_like(top), top);
  const Tensor e = exp(wide - safe), total = sum(e, {-1}, true);
  const Tensor weights =
      cast(where(equal(total, 0), zeros_like(e), e / where(equal(total, 0), ones_like(total), total)), dtype);
  Tensor y = matmul(weights, v);
  if (flat) y = reshape(transpose(y, 1, 2), {y.shape(0), lq, heads * v.shape(3)});
  if (mode == 1) seen = after_cap;
  if (mode == 2) seen = after_bias;
  if (mode == 3) seen = weights;
  return {y, present_k, present_v, seen};
}

// Attention with the user's own graphs on scores and probabilities.
Values flex_attention(Call& c) {
  const Tensor q = c.tensor(0);
  Tensor k = c.tensor(1), v = c.tensor(2);
  if (q.ndim() != 4 || k.ndim() != 4 || v.ndim() != 4) c.fail("the inputs must have four axes");
  const int64_t heads = q.shape(1), kv_heads = k.shape(1);
  if (kv_heads < 1 || heads % kv_heads != 0) c.fail("the query heads do not divide among the key heads");
  if (kv_heads != heads) {
    k = repeat_interleave(k, heads / kv_heads, 1);
    v = repeat_interleave(v, heads / kv_heads, 1);
  }
  const auto precision = static_cast<DataType>(c.integer_attribute("softmax_precision", 0));
  const DType wide = precision != DataType::Undefined ? dtype_of(precision, c.where)
                     : q.dtype() == DType::F64        ? f64
                                                      : f32;
  const double scale =
      c.attribute("scale") ? c.real_attribute("scale", 1) : 1 / std::sqrt(static_cast<double>(q.shape(3)));
  const auto modified = [&](const Tensor& x, const char* graph) {
    if (!c.attribute(graph)) return x;
    const Values out = c.run_graph(c.graph_attribute(graph), {x});
    if (out.size() != 1 || !out[0].tensor()) c.fail(std::string(graph) + " must give one tensor");
    return *out[0].tensor();
  };
  const Tensor scores = modified(matmul(cast(q, wide), transpose(cast(k, wide))) * scale, "score_mod");
  const Tensor weights = modified(softmax(scores, -1), "prob_mod");
  return {cast(matmul(weights, cast(v, wide)), q.dtype())};
}

// Rotates pairs of features by an angle that grows with the position (Su et al., arXiv 2104.09864).
Values rotary(Call& c) {
  const Tensor x = c.tensor(0);
  const bool flat = x.ndim() == 3;
  Tensor h = flat ? transpose(reshape(x, {x.shape(0), x.shape(1), c.integer_attribute("num_heads", 0), -1}), 1, 2) : x;
  const int64_t width = h.shape(3);
  const int64_t given = c.integer_attribute("rotary_embedding_dim", 0), turned = given == 0 ? width : given,
                half = turned / 2;
  Tensor cosine = c.tensor(1), sine = c.tensor(2);
  if (c.has(3)) {
    cosine = take(cosine, c.tensor(3), 0);
    sine = take(sine, c.tensor(3), 0);
  }
  cosine = unsqueeze(narrow(cosine, -1, 0, half), {1});
  sine = unsqueeze(narrow(sine, -1, 0, half), {1});
  const bool interleaved = c.integer_attribute("interleaved", 0) != 0;
  const Tensor part = narrow(h, 3, 0, turned);
  const Tensor a = interleaved ? slice(part, {3}, {0}, {turned}, {2}) : narrow(part, 3, 0, half);
  const Tensor b = interleaved ? slice(part, {3}, {1}, {turned}, {2}) : narrow(part, 3, half, half);
  const Tensor real_part = a * cosine - b * sine, imaginary = a * sine + b * cosine;
  Tensor y = interleaved ? reshape(stack({real_part, imaginary}, 4), part.shape()) : concat({real_part, imaginary}, 3);
  if (turned < width) y = concat({y, narrow(h, 3, turned, width - turned)}, 3);
  return {flat ? reshape(transpose(y, 1, 2), x.shape()) : y};
}

// ---- losses ----
Values nll(Call& c, const Tensor& log_probabilities, const Tensor& target) {
  const bool has_ignored = c.attribute("ignore_index") != nullptr;
  const int64_t ignored = c.integer_attribute("ignore_index", 0);
  const Tensor labels = cast(target, i64);
  const Tensor counts = has_ignored ? not_equal(labels, ignored) : ones(labels.shape(), boolean);
  const Tensor safe = where(counts, labels, zeros_like(labels));
  const DType dtype = log_probabilities.dtype();
  Tensor weight = c.has(2) ? take(c.tensor(2), safe, 0) : ones(labels.shape(), dtype);
  weight = where(counts, weight, zeros_like(weight));
  const Tensor picked = squeeze(take_along_axis(log_probabilities, unsqueeze(safe, {1}), 1), {1});
  const Tensor loss = -(picked * weight);
  const std::string reduction = c.text_attribute("reduction", "mean");
  if (reduction == "none") return {loss};
  if (reduction == "sum") return {sum(loss)};
  return {sum(loss) / sum(weight)};
}
Values nll_loss_rule(Call& c) { return nll(c, c.tensor(0), c.tensor(1)); }
Values softmax_cross_entropy(Call& c) {
  const Tensor logs = log_softmax(c.tensor(0), 1);
  Values out = nll(c, logs, c.tensor(1));
  out.emplace_back(logs);
  return out;
}

constexpr std::array kRules{
    Rule{"Conv", conv},
    Rule{"ConvTranspose", conv_transpose},
    Rule{"ConvInteger", conv_integer},
    Rule{"MaxPool", max_pool},
    Rule{"MaxUnpool", max_unpool_rule},
    Rule{"AveragePool", average_pool},
    Rule{"LpPool", lp_pool},
    Rule{"GlobalAveragePool", global_average},
    Rule{"GlobalMaxPool", global_max},
    Rule{"GlobalLpPool", global_lp},
    Rule{"BatchNormalization", batch_normalization},
    Rule{"LayerNormalization", layer_normalization},
    Rule{"RMSNormalization", rms_normalization},
    Rule{"SimplifiedLayerNormalization", rms_normalization},
    Rule{"GroupNormalization", group_normalization},
    Rule{"InstanceNormalization", instance_normalization},
    Rule{"MeanVarianceNormalization", mean_variance},
    Rule{"LpNormalization", lp_normalization},
    Rule{"LRN", local_response},
    Rule{"Dropout", dropout_rule},  // random only in training: the outputs tell
    Rule{"RNN", rnn},
    Rule{"GRU", gru},
    Rule{"LSTM", lstm},
    Rule{"Attention", attention_rule},
    Rule{"FlexAttention", flex_attention, "ai.onnx.preview"},
    Rule{"RotaryEmbedding", rotary},
    Rule{"NegativeLogLikelihoodLoss", nll_loss_rule},
    Rule{"SoftmaxCrossEntropyLoss", softmax_cross_entropy},
};

}  // namespace

std::span<const Rule> network_rules() { return kRules; }

}  // namespace tenon::formats::onnx
