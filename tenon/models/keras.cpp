#include "tenon/models/keras.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/data/zip_archive.h"
#include "tenon/formats/hdf5.h"
#include "tenon/ops/control.h"
#include "tenon/ops/convolution.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/normalization.h"
#include "tenon/ops/pooling.h"
#include "tenon/ops/reduce.h"
#include "tenon/ops/softmax.h"
#include "tenon/text/value.h"

namespace tenon::models {
namespace {

using text::Value;
using Inputs = std::vector<Tensor>;
using Weights = std::vector<Variable>;
using Compute = std::function<Tensor(const Inputs&, const Weights&)>;
using Unary = std::function<Tensor(Tensor)>;

// A layer's description.
struct Config {
  const Value& values;
  const std::string& where;
  [[nodiscard]] bool flag(std::string_view name, bool fallback) const {
    return text::bool_field(values, name, fallback, where);
  }
  [[nodiscard]] double real(std::string_view name, double fallback) const {
    return text::real_field(values, name, fallback, where);
  }
  [[nodiscard]] std::string string(std::string_view name, std::string fallback) const {
    return text::string_field(values, name, std::move(fallback), where);
  }
  [[nodiscard]] Ints pair(std::string_view name, Ints fallback) const {
    const Value* found = text::find_field(values, name);
    if (found == nullptr) return fallback;
    if (found->is_integer()) return {found->integer(), found->integer()};
    Ints out;
    for (const auto& one : text::list_field(values, name, where))
      out.push_back(text::as_count(one, name, 1 << 20, where));
    if (out.size() != 2) text::fail_field(where, name, "two numbers", found);
    return out;
  }
  void require(bool holds, std::string_view what) const {
    if (!holds)
      throw UnsupportedError({.where = where, .problem = fmt::format("a layer's '{}' is not to be had", what)});
  }
};

Unary activation(const Config& c, std::string_view field, const std::string& fallback) {
  static const std::map<std::string, Unary, std::less<>> known{
      {"linear", [](Tensor x) { return x; }},
      {"relu", [](Tensor x) { return relu(std::move(x)); }},
      {"relu6", [](Tensor x) { return relu6(std::move(x)); }},
      {"sigmoid", [](Tensor x) { return sigmoid(std::move(x)); }},
      {"tanh", [](Tensor x) { return tanh(std::move(x)); }},
      {"softmax", [](Tensor x) { return softmax(std::move(x), -1); }},
      {"gelu", [](Tensor x) { return gelu(std::move(x)); }},
      {"elu", [](Tensor x) { return elu(std::move(x)); }},
      {"selu", [](Tensor x) { return selu(std::move(x)); }},
      {"silu", [](Tensor x) { return silu(std::move(x)); }},
      {"swish", [](Tensor x) { return silu(std::move(x)); }},
      {"softplus", [](Tensor x) { return softplus(std::move(x)); }},
      {"exponential", [](Tensor x) { return exp(std::move(x)); }}};
  const auto found = known.find(c.string(field, fallback));
  c.require(found != known.end(), field);
  return found->second;
}

void need(const Weights& weights, std::size_t count) {
  if (weights.size() != count)
    throw FormatError({.where = "keras",
                       .problem = "a layer does not have the weights that it needs",
                       .expected = std::to_string(count),
                       .got = std::to_string(weights.size())});
}

// Keras has channels last, the operators have them first.
Tensor channels_first(Tensor x) { return permute(std::move(x), {0, 3, 1, 2}); }
Tensor channels_last(Tensor x) { return permute(std::move(x), {0, 2, 3, 1}); }

Compute dense(const Config& c) {
  return [act = activation(c, "activation", "linear"), bias = c.flag("use_bias", true)](const Inputs& x,
                                                                                        const Weights& w) {
    need(w, bias ? 2 : 1);
    Tensor y = matmul(x[0], w[0].value());
    return act(bias ? y + w[1].value() : y);
  };
}

Compute conv(const Config& c, bool depthwise) {
  c.require(c.string("data_format", "channels_last") == "channels_last", "data_format");
  const std::string padding = c.string("padding", "valid");
  c.require(padding == "valid" || padding == "same", "padding");
  ConvOptions options{
      .stride = c.pair("strides", {1, 1}), .dilation = c.pair("dilation_rate", {1, 1}), .same = padding == "same"};
  options.groups = text::count_field(c.values, "groups", 1, 1 << 20, c.where);
  return [=, act = activation(c, "activation", "linear"), bias = c.flag("use_bias", true)](const Inputs& x,
                                                                                           const Weights& w) {
    need(w, bias ? 2 : 1);
    ConvOptions o = options;
    Tensor kernel = w[0].value();  // [height, width, in, out]
    if (depthwise) {               // [height, width, channels, multiplier]
      const int64_t channels = kernel.shape(2), multiplier = kernel.shape(3);
      kernel = reshape(kernel, {kernel.shape(0), kernel.shape(1), 1, channels * multiplier});
      o.groups = channels;
    }
    Tensor y = conv2d(channels_first(x[0]), permute(kernel, {3, 2, 0, 1}), bias ? w[1].value() : Tensor(), o);
    return act(channels_last(std::move(y)));
  };
}

// What "same" adds in front of and behind an axis, so that ceil(extent / stride) windows fit.
std::pair<int64_t, int64_t> same_padding(int64_t extent, int64_t window, int64_t stride) {
  const int64_t all = std::max<int64_t>(((extent + stride - 1) / stride - 1) * stride + window - extent, 0);
  return {all / 2, all - all / 2};
}

Compute pool(const Config& c, bool largest) {
  c.require(c.string("data_format", "channels_last") == "channels_last", "data_format");
  const std::string padding = c.string("padding", "valid");
  c.require(padding == "valid" || padding == "same", "padding");
  const Ints window = c.pair("pool_size", {2, 2}), stride = c.pair("strides", window);
  return [=](const Inputs& x, const Weights&) {
    Tensor y = channels_first(x[0]);
    if (padding == "valid")
      return channels_last(largest ? max_pool2d(std::move(y), window, {.stride = stride})
                                   : avg_pool2d(std::move(y), window, {.stride = stride}));
    const auto [top, bottom] = same_padding(y.shape(2), window[0], stride[0]);
    const auto [left, right] = same_padding(y.shape(3), window[1], stride[1]);
    const auto padded = [&](const Tensor& t, double value) {
      return pad(t, {0, 0, top, left}, {0, 0, bottom, right}, value);
    };
    if (largest)
      return channels_last(max_pool2d(padded(y, -std::numeric_limits<double>::infinity()), window, {.stride = stride}));
    // The mean of what is inside the image: padding does not count.
    const Tensor inside = avg_pool2d(padded(ones({1, 1, y.shape(2), y.shape(3)}), 0), window, {.stride = stride});
    return channels_last(avg_pool2d(padded(y, 0), window, {.stride = stride}) / inside);
  };
}

Compute global_pool(const Config& c, bool largest) {
  const bool keep = c.flag("keepdims", false);
  return [=](const Inputs& x, const Weights&) { return largest ? max(x[0], {1, 2}, keep) : mean(x[0], {1, 2}, keep); };
}

Compute batch_norm(const Config& c) {
  const bool scale = c.flag("scale", true), center = c.flag("center", true);
  return [=, epsilon = c.real("epsilon", 1e-3)](const Inputs& x, const Weights& w) {
    need(w, 2U + (scale ? 1U : 0U) + (center ? 1U : 0U));
    std::size_t at = 0;
    const Tensor gamma = scale ? w[at++].value() : Tensor(1.0), beta = center ? w[at++].value() : Tensor(0.0);
    const Tensor mean = w[at].value(), variance = w[at + 1].value();
    return (x[0] - mean) * (rsqrt(variance + Tensor(epsilon)) * gamma) + beta;
  };
}

Compute combine(std::string_view how, const Config& c) {
  const Value* axis = text::find_field(c.values, "axis");
  const int64_t along = axis != nullptr && axis->is_integer() ? axis->integer() : -1;
  return [how, along](const Inputs& x, const Weights&) {
    if (how == "Concatenate") return concat(x, along);
    Tensor y = x.at(0);
    for (std::size_t i = 1; i < x.size(); ++i)
      y = how == "Multiply"   ? y * x[i]
          : how == "Maximum"  ? maximum(y, x[i])
          : how == "Minimum"  ? minimum(y, x[i])
          : how == "Subtract" ? y - x[i]
                              : y + x[i];
    return how == "Average" ? y / Tensor(static_cast<double>(x.size())) : y;
  };
}

Compute same() {
  return [](const Inputs& x, const Weights&) { return x.at(0); };
}
Compute apply(Unary fn) {
  return [fn = std::move(fn)](const Inputs& x, const Weights&) { return fn(x.at(0)); };
}

// ---- more layers of images ----
// 1, [1, 2] or [[1, 2], [3, 4]]: what to add or cut at both ends of both axes.
struct Borders {
  Ints low, high;
};
Borders borders(const Config& c, std::string_view name) {
  const Value* found = text::find_field(c.values, name);
  Borders b{{1, 1}, {1, 1}};
  if (found == nullptr) return b;
  const auto count = [&](const Value& v) { return text::as_count(v, name, 1 << 20, c.where); };
  if (found->is_integer()) return {{count(*found), count(*found)}, {count(*found), count(*found)}};
  if (!found->is_list() || found->list().size() != 2) text::fail_field(c.where, name, "two pairs of numbers", found);
  for (std::size_t axis = 0; axis < 2; ++axis) {
    const Value& one = found->list()[axis];
    const bool pair = one.is_list() && one.list().size() == 2;
    b.low[axis] = count(pair ? one.list()[0] : one);
    b.high[axis] = count(pair ? one.list()[1] : one);
  }
  return b;
}

Compute zero_padding(const Config& c) {
  return [b = borders(c, "padding")](const Inputs& x, const Weights&) {
    return pad(x.at(0), {0, b.low[0], b.low[1], 0}, {0, b.high[0], b.high[1], 0});
  };
}

Compute cropping(const Config& c) {
  return [b = borders(c, "cropping")](const Inputs& x, const Weights&) {
    return slice(x.at(0), {1, 2}, {b.low[0], b.low[1]}, {x[0].shape(1) - b.high[0], x[0].shape(2) - b.high[1]});
  };
}

Compute up_sampling(const Config& c) {
  c.require(c.string("interpolation", "nearest") == "nearest", "interpolation");
  return [size = c.pair("size", {2, 2})](const Inputs& x, const Weights&) {
    return repeat_interleave(repeat_interleave(x.at(0), size[0], 1), size[1], 2);
  };
}

// A depthwise convolution, then one of 1 x 1 with the bias and the activation.
Compute separable_conv(const Config& c) {
  c.require(c.string("data_format", "channels_last") == "channels_last", "data_format");
  const std::string padding = c.string("padding", "valid");
  c.require(padding == "valid" || padding == "same", "padding");
  const ConvOptions options{
      .stride = c.pair("strides", {1, 1}), .dilation = c.pair("dilation_rate", {1, 1}), .same = padding == "same"};
  return [=, act = activation(c, "activation", "linear"), bias = c.flag("use_bias", true)](const Inputs& x,
                                                                                           const Weights& w) {
    need(w, bias ? 3 : 2);
    ConvOptions o = options;
    const Tensor depthwise = w[0].value();  // [height, width, channels, multiplier]
    o.groups = depthwise.shape(2);
    const Tensor kernel = reshape(depthwise, {depthwise.shape(0), depthwise.shape(1), 1, -1});
    Tensor y = conv2d(channels_first(x[0]), permute(kernel, {3, 2, 0, 1}), Tensor(), o);
    y = conv2d(std::move(y), permute(w[1].value(), {3, 2, 0, 1}), bias ? w[2].value() : Tensor());
    return act(channels_last(std::move(y)));
  };
}

Compute conv_transpose(const Config& c) {
  c.require(c.string("data_format", "channels_last") == "channels_last", "data_format");
  const std::string padding = c.string("padding", "valid");
  c.require((padding == "valid" || padding == "same") && text::find_field(c.values, "output_padding") == nullptr,
            "padding");
  const Ints stride = c.pair("strides", {1, 1}), dilation = c.pair("dilation_rate", {1, 1});
  return [=, act = activation(c, "activation", "linear"), bias = c.flag("use_bias", true)](const Inputs& x,
                                                                                           const Weights& w) {
    need(w, bias ? 2 : 1);
    const Tensor kernel = w[0].value();  // [height, width, out, in]
    Tensor y = conv_transpose2d(channels_first(x[0]), permute(kernel, {3, 2, 0, 1}), bias ? w[1].value() : Tensor(),
                                {.stride = stride, .dilation = dilation});
    // "same": extent * stride of what the full transpose gives, less of it in front.
    Ints low, high;
    for (std::size_t k = 0; k < 2; ++k) {
      const auto axis = static_cast<int64_t>(k) + 2;
      const int64_t window = (kernel.shape(static_cast<int64_t>(k)) - 1) * dilation[k] + 1;
      const int64_t want = padding == "same"
                               ? x[0].shape(axis - 1) * stride[k]
                               : x[0].shape(axis - 1) * stride[k] + std::max<int64_t>(window - stride[k], 0);
      const int64_t extra = y.shape(axis) - want;
      if (extra < 0) {  // a stride beyond the window: zeros that no window reaches
        Shape more = y.shape();
        more[k + 2] = -extra;
        const Tensor rest = zeros(more);
        y = concat({y, bias ? rest + reshape(w[1].value(), {1, -1, 1, 1}) : rest}, axis);
      }
      low.push_back(std::max<int64_t>(extra, 0) / 2);
      high.push_back(low.back() + want);
    }
    return act(channels_last(slice(std::move(y), {2, 3}, low, high)));
  };
}

Compute conv1d(const Config& c) {
  c.require(c.string("data_format", "channels_last") == "channels_last", "data_format");
  const std::string padding = c.string("padding", "valid");
  c.require(padding == "valid" || padding == "same" || padding == "causal", "padding");
  const auto one = [&](std::string_view name) {
    const Value* found = text::find_field(c.values, name);
    if (found == nullptr) return int64_t{1};
    return text::as_count(found->is_list() && found->list().size() == 1 ? found->list()[0] : *found, name, 1 << 20,
                          c.where);
  };
  const int64_t stride = one("strides"), dilation = one("dilation_rate");
  const int64_t groups = text::count_field(c.values, "groups", 1, 1 << 20, c.where);
  return [=, act = activation(c, "activation", "linear"), bias = c.flag("use_bias", true)](const Inputs& x,
                                                                                           const Weights& w) {
    need(w, bias ? 2 : 1);
    Tensor y = transpose(x.at(0), 1, 2);
    const int64_t reach = (w[0].shape()[0] - 1) * dilation;
    if (padding == "causal") y = pad(std::move(y), {0, 0, reach}, {0, 0, 0});
    if (padding == "same") {
      const auto [front, back] = same_padding(y.shape(2), reach + 1, stride);
      y = pad(std::move(y), {0, 0, front}, {0, 0, back});
    }
    y = conv1d(std::move(y), permute(w[0].value(), {2, 1, 0}), bias ? w[1].value() : Tensor(),
               {.stride = {stride}, .dilation = {dilation}, .groups = groups});
    return act(transpose(std::move(y), 1, 2));
  };
}

// ---- recurrent layers: [N, length, width] ----
using Cell = std::function<Tensors(const Tensor& x, const Tensors& state, const Weights& w)>;

Tensor split_at(const Tensor& x, int64_t part, int64_t parts) {
  const int64_t width = x.shape(-1) / parts;
  return narrow(x, -1, part * width, width);
}

Cell recurrent_cell(const std::string& type, const Config& c) {
  const bool bias = c.flag("use_bias", true);
  const Unary act = activation(c, "activation", "tanh");
  if (type == "SimpleRNN")
    return [=](const Tensor& x, const Tensors& h, const Weights& w) {
      Tensor y = matmul(x, w[0].value()) + matmul(h[0], w[1].value());
      return Tensors{act(bias ? y + w[2].value() : y)};
    };
  const Unary gate = activation(c, "recurrent_activation", "sigmoid");
  if (type == "LSTM")
    return [=](const Tensor& x, const Tensors& h, const Weights& w) {
      Tensor z = matmul(x, w[0].value()) + matmul(h[0], w[1].value());
      if (bias) z = z + w[2].value();
      const Tensor cell = gate(split_at(z, 1, 4)) * h[1] + gate(split_at(z, 0, 4)) * act(split_at(z, 2, 4));
      return Tensors{gate(split_at(z, 3, 4)) * act(cell), cell};
    };
  const bool after = c.flag("reset_after", true);
  return [=](const Tensor& x, const Tensors& h, const Weights& w) {
    Tensor a = matmul(x, w[0].value());
    if (bias) a = a + (after ? select(w[2].value(), 0, 0) : w[2].value());
    const Tensor kernel = w[1].value();
    const int64_t width = h[0].shape(1);
    Tensor z, r, candidate;
    if (after) {
      Tensor b = matmul(h[0], kernel);
      if (bias) b = b + select(w[2].value(), 0, 1);
      z = gate(split_at(a, 0, 3) + split_at(b, 0, 3));
      r = gate(split_at(a, 1, 3) + split_at(b, 1, 3));
      candidate = act(split_at(a, 2, 3) + r * split_at(b, 2, 3));
    } else {
      const Tensor b = matmul(h[0], narrow(kernel, 1, 0, 2 * width));
      z = gate(split_at(a, 0, 3) + split_at(b, 0, 2));
      r = gate(split_at(a, 1, 3) + split_at(b, 1, 2));
      candidate = act(split_at(a, 2, 3) + matmul(r * h[0], narrow(kernel, 1, 2 * width, width)));
    }
    return Tensors{z * h[0] + (1.0 - z) * candidate};
  };
}

// `turn`: from the last step to the first; rows then stand in the order in which they were made.
Compute recurrent(const std::string& type, const Config& c, bool turn = false) {
  const bool all = c.flag("return_sequences", false);
  const int64_t units = text::count_field(c.values, "units", 0, 1 << 24, c.where);
  c.require(units > 0 && !c.flag("return_state", false) && !c.flag("stateful", false), "return_state");
  const bool backwards = c.flag("go_backwards", false) != turn;
  const std::size_t weights = c.flag("use_bias", true) ? 3 : 2;
  return [=, cell = recurrent_cell(type, c)](const Inputs& x, const Weights& w) {
    need(w, weights);
    const Tensor steps = transpose(x.at(0), 0, 1);
    Tensors state(type == "LSTM" ? 2 : 1, zeros({x[0].shape(0), units}, x[0].dtype()));
    const auto step = [&](const Tensors& h, const Tensors& in) {
      Tensors next = cell(in[0], h, w);
      return ScanStep{next, {next[0]}};
    };
    const ScanStep run = scan(step, state, {backwards ? flip(steps, {0}) : steps});
    return all ? transpose(run.rows[0], 0, 1) : run.carry[0];
  };
}

Compute bidirectional(const Config& c) {
  const std::string merge = c.string("merge_mode", "concat");
  c.require(merge == "concat" || merge == "sum" || merge == "mul" || merge == "ave", "merge_mode");
  const Value& layer = text::get_field(c.values, "layer", c.where);
  const std::string type = text::string_field(layer, "class_name", "", c.where);
  c.require(type == "LSTM" || type == "GRU" || type == "SimpleRNN", "layer");
  const Config inner{text::get_field(layer, "config", c.where), c.where};
  const bool all = inner.flag("return_sequences", false);
  return [=, there = recurrent(type, inner), back = recurrent(type, inner, true)](const Inputs& x, const Weights& w) {
    if (w.size() % 2 != 0) need(w, w.size() + 1);
    const auto middle = w.begin() + static_cast<std::ptrdiff_t>(w.size() / 2);
    const Tensor a = there(x, {w.begin(), middle});
    Tensor b = back(x, {middle, w.end()});
    if (all) b = flip(b, {1});
    return merge == "concat" ? concat({a, b}, -1) : merge == "mul" ? a * b : merge == "sum" ? a + b : (a + b) / 2.0;
  };
}

using Maker = std::function<Compute(const Config&)>;
const std::map<std::string, Maker, std::less<>>& makers() {
  static const std::map<std::string, Maker, std::less<>> table{
      {"InputLayer", [](const Config&) { return same(); }},
      {"Dropout", [](const Config&) { return same(); }},
      {"SpatialDropout2D", [](const Config&) { return same(); }},
      {"GaussianNoise", [](const Config&) { return same(); }},
      {"Dense", dense},
      {"Conv2D", [](const Config& c) { return conv(c, false); }},
      {"DepthwiseConv2D", [](const Config& c) { return conv(c, true); }},
      {"MaxPooling2D", [](const Config& c) { return pool(c, true); }},
      {"AveragePooling2D", [](const Config& c) { return pool(c, false); }},
      {"SeparableConv2D", separable_conv},
      {"Conv2DTranspose", conv_transpose},
      {"Conv1D", conv1d},
      {"ZeroPadding2D", zero_padding},
      {"Cropping2D", cropping},
      {"UpSampling2D", up_sampling},
      {"LSTM", [](const Config& c) { return recurrent("LSTM", c); }},
      {"GRU", [](const Config& c) { return recurrent("GRU", c); }},
      {"SimpleRNN", [](const Config& c) { return recurrent("SimpleRNN", c); }},
      {"Bidirectional", bidirectional},
      {"GlobalMaxPooling2D", [](const Config& c) { return global_pool(c, true); }},
      {"GlobalAveragePooling2D", [](const Config& c) { return global_pool(c, false); }},
      {"BatchNormalization", batch_norm},
      {"LayerNormalization",
       [](const Config& c) -> Compute {
         return [epsilon = c.real("epsilon", 1e-3)](const Inputs& x, const Weights& w) {
           need(w, 2);
           return layer_norm(x[0], w[0].value(), w[1].value(), epsilon);
         };
       }},
      {"Embedding",
       [](const Config&) -> Compute {
         return [](const Inputs& x, const Weights& w) {
           need(w, 1);
           return embedding(w[0].value(), cast(x[0], DType::I64));
         };
       }},
      {"Flatten", [](const Config&) { return apply([](Tensor x) { return flatten(std::move(x), 1); }); }},
      {"Reshape",
       [](const Config& c) {
         Shape shape{0};
         for (const auto& one : text::list_field(c.values, "target_shape", c.where))
           shape.push_back(one.is_integer() ? one.integer() : -1);
         return apply([shape](Tensor x) {
           Shape full = shape;
           full[0] = x.shape(0);
           return reshape(std::move(x), full);
         });
       }},
      {"Activation", [](const Config& c) { return apply(activation(c, "activation", "linear")); }},
      {"Permute",
       [](const Config& c) {
         Ints order{0};
         for (const auto& one : text::list_field(c.values, "dims", c.where))
           order.push_back(text::as_count(one, "dims", 64, c.where));
         return apply([order](Tensor x) { return permute(std::move(x), order); });
       }},
      {"PReLU",
       [](const Config&) -> Compute {
         return [](const Inputs& x, const Weights& w) {
           need(w, 1);
           return where(x[0] > 0.0, x[0], x[0] * w[0].value());
         };
       }},
      {"ELU",
       [](const Config& c) {
         return apply([alpha = c.real("alpha", 1)](Tensor x) { return elu(std::move(x), alpha); });
       }},
      {"ReLU",
       [](const Config& c) {
         c.require(c.real("negative_slope", 0) == 0 && c.real("threshold", 0) == 0, "negative_slope");
         const double most = c.real("max_value", std::numeric_limits<double>::infinity());
         return apply([most](Tensor x) {
           Tensor y = relu(std::move(x));
           return std::isinf(most) ? y : minimum(std::move(y), most);
         });
       }},
      {"LeakyReLU",
       [](const Config& c) {
         const double slope = c.real("negative_slope", c.real("alpha", 0.3));
         return apply([slope](Tensor x) { return leaky_relu(std::move(x), slope); });
       }},
      {"Softmax", [](const Config&) { return apply([](Tensor x) { return softmax(std::move(x), -1); }); }},
      {"Rescaling",
       [](const Config& c) {
         const double scale = c.real("scale", 1), offset = c.real("offset", 0);
         return apply([=](Tensor x) { return cast(std::move(x), DType::F32) * Tensor(scale) + Tensor(offset); });
       }},
  };
  return table;
}
constexpr std::string_view kCombining[] = {"Add",     "Subtract", "Multiply",   "Average",
                                           "Maximum", "Minimum",  "Concatenate"};

Compute make_layer(const std::string& type, const Config& config) {
  for (const auto& how : kCombining)
    if (type == how) return combine(how, config);
  return makers().at(type)(config);
}

// "MaxPooling2D" -> "max_pooling2d", as Keras names the groups of its weights.
std::string snake_case(const std::string& name) {
  std::string out;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const auto upper = [&](std::size_t at) { return at < name.size() && name[at] >= 'A' && name[at] <= 'Z'; };
    const auto lower_or_digit = [&](std::size_t at) {
      return at < name.size() && ((name[at] >= 'a' && name[at] <= 'z') || (name[at] >= '0' && name[at] <= '9'));
    };
    const bool border = i > 0 && upper(i) &&
                        ((lower_or_digit(i - 1) && !(name[i - 1] >= '0' && name[i - 1] <= '9')) ||
                         (i + 1 < name.size() && name[i + 1] >= 'a' && name[i + 1] <= 'z'));
    if (border) out += '_';
    out += upper(i) ? static_cast<char>(name[i] + 32) : name[i];
  }
  return out;
}

// Every {"keras_history": ["layer", 0, 0]} below a value (version 3), or ["layer", 0, 0, {}] (version 2).
void collect_sources(const Value& value, std::vector<std::string>& names, int depth) {
  if (depth > 20) return;
  if (const Value* config = value.find("keras_history");
      config != nullptr && config->is_list() && !config->list().empty()) {
    names.push_back(config->list()[0].is_string() ? config->list()[0].string() : "");
  } else if (value.is_object()) {
    for (const auto& entry : value.object()) collect_sources(entry.second, names, depth + 1);
  } else if (value.is_list()) {
    const auto& list = value.list();
    if (list.size() >= 3 && list[0].is_string() && list[1].is_integer() && list[2].is_integer()) {
      names.push_back(list[0].string());
    } else {
      for (const auto& one : list) collect_sources(one, names, depth + 1);
    }
  }
}

// Layers compute in f32 and look up by i64, whatever the file keeps.
Tensor as_weight(const Tensor& stored) {
  if (is_integer(stored.dtype())) return cast(stored, DType::I64);
  return stored.dtype() == DType::F64 || stored.dtype() == DType::Bool ? stored : cast(stored, DType::F32);
}

// The weights of a layer, in Keras's order.
std::vector<Variable> weights_of(const formats::Hdf5& file, const std::string& name, const std::string& group) {
  std::vector<Variable> weights;
  // Version 3: layers/GROUP/vars/0, 1, …; a recurrent layer keeps them in its cell, a bidirectional one in its two.
  for (const char* part : {"", "cell/", "forward_layer/cell/", "backward_layer/cell/"}) {
    for (int i = 0;; ++i) {
      const Tensor* found = file.tensors.find(fmt::format("layers/{}/{}vars/{}", group, part, i));
      if (found == nullptr) break;
      weights.emplace_back(as_weight(*found));
    }
  }
  if (!weights.empty()) return weights;
  // Version 2: each layer's group lists its weights.
  const auto listed = file.attributes.find(fmt::format("model_weights/{}@weight_names", name));
  if (listed == file.attributes.end()) return weights;
  for (const auto& weight : listed->second)
    if (const Tensor* found = file.tensors.find(fmt::format("model_weights/{}/{}", name, weight)))
      weights.emplace_back(as_weight(*found));
  return weights;
}

struct Description {
  Value config;
  formats::Hdf5 weights;
};

Description read_description(const std::filesystem::path& path) {
  const auto file = std::make_shared<const MappedFile>(path);
  const std::string& where = file->path();
  Description result;
  if (data::is_zip(file->bytes())) {
    const data::ZipArchive archive(path, "a .keras file");
    const auto config = archive.find("config.json"), weights = archive.find("model.weights.h5");
    if (!config || !weights)
      throw FormatError({.where = where,
                         .problem = "config.json or model.weights.h5 is not in the archive",
                         .expected = "a .keras file"});
    const auto text = archive.read(*config);
    result.config = text::parse_json({reinterpret_cast<const char*>(text.data()), text.size()}, where + ":config.json");
    // The weights stay in the unpacked member: one copy of them.
    const auto unpacked = std::make_shared<const std::vector<std::byte>>(archive.read(*weights));
    result.weights = formats::read_hdf5(*unpacked, where + ":model.weights.h5", unpacked);
    return result;
  }
  result.weights = formats::read_hdf5(file->bytes(), where, file, {.mapped = true});
  const auto config = result.weights.attributes.find("@model_config");
  if (config == result.weights.attributes.end() || config->second.empty())
    throw FormatError({.where = where,
                       .problem = "the file holds weights without their architecture",
                       .expected = "a model saved as a whole"});
  result.config = text::parse_json(config->second[0], where + ":model_config");
  return result;
}

// "batch_shape" (version 3) or "batch_input_shape": [null, 28, 28, 1].
KerasInput input_type(const std::string& name, const Value& settings, const std::string& where) {
  KerasInput input{name, {}};
  const Value* shape = text::find_field(settings, "batch_shape");
  if (shape == nullptr) shape = text::find_field(settings, "batch_input_shape");
  if (shape != nullptr && shape->is_list()) {
    for (const Value& extent : shape->list())
      input.extents.push_back(extent.is_null() ? -1 : text::as_count(extent, "batch_shape", INT64_C(1) << 32, where));
  }
  const Value* dtype = text::find_field(settings, "dtype");
  if (dtype != nullptr && dtype->is_string() && dtype->string().starts_with("int")) input.dtype = DType::I64;
  return input;
}

}  // namespace

KerasModel KerasModel::load(const std::filesystem::path& path) {
  const Description file = read_description(path);
  const std::string where = path.string();
  const std::string kind = text::string_field(file.config, "class_name", "", where);
  const bool functional = kind == "Functional" || kind == "Model";
  if (!functional && kind != "Sequential")
    throw UnsupportedError({.where = where,
                            .problem = fmt::format("a Keras model of the kind '{}'", kind),
                            .expected = "Sequential or Functional"});
  const Value& config = text::get_field(file.config, "config", where);
  std::vector<std::string> missing;
  const text::List& list = text::list_field(config, "layers", where);
  for (const auto& layer : list) {
    const std::string type = text::string_field(layer, "class_name", "", where);
    if (!makers().contains(type) &&
        std::find(std::begin(kCombining), std::end(kCombining), type) == std::end(kCombining))
      missing.push_back(type);
  }
  if (!missing.empty())
    throw UnsupportedError(
        {.where = where, .problem = fmt::format("these Keras layers are not to be had: {}", fmt::join(missing, ", "))});

  KerasModel model;
  std::map<std::string, std::size_t, std::less<>> places;
  std::map<std::string, int> counts;
  for (const auto& entry : list) {
    KerasLayer layer;
    layer.type = text::string_field(entry, "class_name", "", where);
    const Value& settings = text::get_field(entry, "config", where);
    layer.name = text::string_field(settings, "name", text::string_field(entry, "name", layer.type, where), where);
    layer.compute = make_layer(layer.type, Config{settings, where});
    const std::string plain = snake_case(layer.type);
    const int number = layer.type == "InputLayer" ? 0 : counts[plain]++;
    layer.weights = weights_of(file.weights, layer.name, number == 0 ? plain : fmt::format("{}_{}", plain, number));
    if (functional) {
      std::vector<std::string> sources;
      if (const Value* nodes = text::find_field(entry, "inbound_nodes")) collect_sources(*nodes, sources, 0);
      for (const auto& source : sources) {
        const auto found = places.find(source);
        if (found == places.end())
          throw FormatError(
              {.where = where,
               .problem = fmt::format("'{}' takes from '{}', which does not come before it", layer.name, source)});
        layer.inputs.push_back(found->second);
      }
    } else if (!model.layers_.empty()) {
      layer.inputs.push_back(model.layers_.size() - 1);
    }
    if (layer.type == "InputLayer" || (!functional && model.layers_.empty())) {
      model.inputs_.push_back(model.layers_.size());
      model.input_types_.push_back(input_type(layer.name, settings, where));
    }
    places[layer.name] = model.layers_.size();
    model.layers_.push_back(std::move(layer));
  }
  if (model.layers_.empty()) throw FormatError({.where = where, .problem = "the model has no layers"});
  std::vector<std::string> outputs;
  if (const Value* named = functional ? text::find_field(config, "output_layers") : nullptr)
    collect_sources(*named, outputs, 0);
  for (const auto& output : outputs)
    if (const auto found = places.find(output); found != places.end()) model.outputs_.push_back(found->second);
  if (model.outputs_.empty()) model.outputs_.push_back(model.layers_.size() - 1);
  return model;
}

std::vector<Tensor> KerasModel::run(const std::vector<Tensor>& inputs) const {
  if (inputs.size() != inputs_.size())
    throw ValueError({.where = "KerasModel",
                      .problem = "the inputs are not as many as the model's",
                      .expected = std::to_string(inputs_.size()),
                      .got = std::to_string(inputs.size())});
  std::vector<Tensor> values(layers_.size());
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    std::vector<Tensor> taken;
    for (std::size_t k = 0; k < inputs_.size(); ++k)
      if (inputs_[k] == i) taken.push_back(inputs[k]);
    for (const std::size_t source : layers_[i].inputs) taken.push_back(values[source]);
    if (taken.empty())
      throw FormatError({.where = "KerasModel", .problem = fmt::format("'{}' has no input", layers_[i].name)});
    values[i] = layers_[i].compute(taken, layers_[i].weights);
  }
  std::vector<Tensor> results;
  for (const std::size_t output : outputs_) results.push_back(values[output]);
  return results;
}

std::vector<KerasInput> KerasModel::inputs() const { return input_types_; }

std::vector<std::string> KerasModel::output_names() const {
  std::vector<std::string> names;
  for (const std::size_t output : outputs_) names.push_back(layers_[output].name);
  return names;
}

Tensor KerasModel::operator()(const Tensor& input) const { return run({input}).at(0); }

StateDict KerasModel::state_dict() const {
  StateDict dict;
  for (const auto& layer : layers_)
    for (std::size_t i = 0; i < layer.weights.size(); ++i)
      dict.set(fmt::format("{}.{}", layer.name, i), layer.weights[i].value());
  return dict;
}

}  // namespace tenon::models
