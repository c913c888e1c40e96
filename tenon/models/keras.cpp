#include "tenon/models/keras.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/data/zip_archive.h"
#include "tenon/formats/hdf5.h"
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

const Weights& need(const Weights& weights, std::size_t count) {
  if (weights.size() != count)
    throw FormatError({.where = "keras",
                       .problem = "a layer does not have the weights that it needs",
                       .expected = std::to_string(count),
                       .got = std::to_string(weights.size())});
  return weights;
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

Compute pool(const Config& c, bool largest) {
  c.require(c.string("data_format", "channels_last") == "channels_last", "data_format");
  c.require(c.string("padding", "valid") == "valid", "padding");
  const Ints window = c.pair("pool_size", {2, 2}), stride = c.pair("strides", window);
  return [=](const Inputs& x, const Weights&) {
    Tensor y = channels_first(x[0]);
    return channels_last(largest ? max_pool2d(std::move(y), window, {.stride = stride})
                                 : avg_pool2d(std::move(y), window, {.stride = stride}));
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
      y = how == "Multiply" ? y * x[i] : how == "Maximum" ? maximum(y, x[i]) : how == "Subtract" ? y - x[i] : y + x[i];
    return how == "Average" ? y / Tensor(static_cast<double>(x.size())) : y;
  };
}

Compute same() {
  return [](const Inputs& x, const Weights&) { return x.at(0); };
}
Compute apply(Unary fn) {
  return [fn = std::move(fn)](const Inputs& x, const Weights&) { return fn(x.at(0)); };
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
         return
             [](const Inputs& x, const Weights& w) { return embedding(need(w, 1)[0].value(), cast(x[0], DType::I64)); };
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
      {"ReLU",
       [](const Config& c) {
         c.require(text::find_field(c.values, "max_value") == nullptr && c.real("negative_slope", 0) == 0 &&
                       c.real("threshold", 0) == 0,
                   "max_value");
         return apply([](Tensor x) { return relu(std::move(x)); });
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
constexpr std::string_view kCombining[] = {"Add", "Subtract", "Multiply", "Average", "Maximum", "Concatenate"};

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

// The weights of a layer, in Keras's order.
std::vector<Variable> weights_of(const formats::Hdf5& file, const std::string& name, const std::string& group) {
  std::vector<Variable> weights;
  // Version 3: layers/GROUP/vars/0, 1, …
  for (int i = 0;; ++i) {
    const Tensor* found = file.tensors.find(fmt::format("layers/{}/vars/{}", group, i));
    if (found == nullptr) break;
    weights.emplace_back(*found);
  }
  if (!weights.empty()) return weights;
  // Version 2: each layer's group lists its weights.
  const auto listed = file.attributes.find(fmt::format("model_weights/{}@weight_names", name));
  if (listed == file.attributes.end()) return weights;
  for (const auto& weight : listed->second)
    if (const Tensor* found = file.tensors.find(fmt::format("model_weights/{}/{}", name, weight)))
      weights.emplace_back(*found);
  return weights;
}

struct Description {
  Value config;
  formats::Hdf5 weights;
};

Description read_description(const std::filesystem::path& path) {
  const MappedFile file(path);
  const std::string where = file.path();
  Description result;
  if (data::is_zip(file.bytes())) {
    const data::ZipArchive archive(file.bytes(), where, "a .keras file");
    const auto config = archive.find("config.json"), weights = archive.find("model.weights.h5");
    if (!config || !weights)
      throw FormatError({.where = where,
                         .problem = "config.json or model.weights.h5 is not in the archive",
                         .expected = "a .keras file"});
    const auto text = archive.read(*config);
    result.config = text::parse_json({reinterpret_cast<const char*>(text.data()), text.size()}, where + ":config.json");
    result.weights = formats::read_hdf5(archive.read(*weights), where + ":model.weights.h5");
    return result;
  }
  result.weights = formats::read_hdf5(file.bytes(), where);
  const auto config = result.weights.attributes.find("@model_config");
  if (config == result.weights.attributes.end() || config->second.empty())
    throw FormatError({.where = where,
                       .problem = "the file holds weights without their architecture",
                       .expected = "a model saved as a whole"});
  result.config = text::parse_json(config->second[0], where + ":model_config");
  return result;
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
    if (layer.type == "InputLayer" || (!functional && model.layers_.empty()))
      model.inputs_.push_back(model.layers_.size());
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

Tensor KerasModel::operator()(const Tensor& input) const { return run({input}).at(0); }

StateDict KerasModel::state_dict() const {
  StateDict dict;
  for (const auto& layer : layers_)
    for (std::size_t i = 0; i < layer.weights.size(); ++i)
      dict.set(fmt::format("{}.{}", layer.name, i), layer.weights[i].value());
  return dict;
}

}  // namespace tenon::models
