#include "tenon/models/residual_network.h"

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/formats/checkpoint.h"
#include "tenon/models/settings.h"
#include "tenon/nn/init.h"
#include "tenon/nn/module.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/pooling.h"

namespace tenon::models {
namespace {

text::Object config_of(const ResidualConfig& c, const char* architecture) {
  const auto list = [](const std::vector<int64_t>& values) { return text::List(values.begin(), values.end()); };
  return {{"architectures", text::List{architecture}},
          {"model_type", "resnet"},
          {"num_channels", c.num_channels},
          {"embedding_size", c.embedding_size},
          {"hidden_sizes", list(c.hidden_sizes)},
          {"depths", list(c.depths)},
          {"layer_type", c.bottleneck ? "bottleneck" : "basic"},
          {"hidden_act", "relu"},
          {"downsample_in_first_stage", c.downsample_in_first_stage},
          {"downsample_in_bottleneck", c.downsample_in_bottleneck},
          {"torch_dtype", "float32"}};
}

}  // namespace

ResidualConfig residual_config(const Settings& s) {
  s.require("model_type", {"resnet"});
  s.require("hidden_act", {"relu"});
  s.require("layer_type", {"bottleneck", "basic"});
  ResidualConfig c;
  c.num_channels = s.count("num_channels", 3);
  c.embedding_size = s.count("embedding_size", 64);
  c.hidden_sizes = s.sizes("hidden_sizes", c.hidden_sizes);
  c.depths = s.sizes("depths", c.depths);
  c.bottleneck = s.string("layer_type", "bottleneck") == "bottleneck";
  c.downsample_in_first_stage = s.flag("downsample_in_first_stage", false);
  c.downsample_in_bottleneck = s.flag("downsample_in_bottleneck", false);
  if (c.depths.size() != c.hidden_sizes.size())
    text::fail_field(s.where, "depths", "one for each of hidden_sizes", text::find_field(s.values, "depths"));
  int64_t layers = 0;
  for (const int64_t depth : c.depths) {
    layers += std::min(depth, Settings::kMostLayers + 1);
    if (layers > Settings::kMostLayers)
      text::fail_field(s.where, "depths", "fewer layers", text::find_field(s.values, "depths"));
  }
  return c;
}

ResidualConvolution::ResidualConvolution(int64_t in, int64_t out, int64_t kernel, int64_t stride)
    : convolution(in, out, kernel, {.stride = stride, .padding = kernel / 2, .bias = false}), normalization(out) {}

ResidualLayer::ResidualLayer(int64_t in, int64_t out, int64_t stride, const ResidualConfig& c) {
  if (in != out || stride != 1) shortcut.emplace(in, out, 1, stride);
  if (c.bottleneck) {
    const int64_t narrow = out / 4;
    layer.emplace_back(in, narrow, 1, c.downsample_in_bottleneck ? stride : 1);
    layer.emplace_back(narrow, narrow, 3, c.downsample_in_bottleneck ? 1 : stride);
    layer.emplace_back(narrow, out, 1, 1);
  } else {
    layer.emplace_back(in, out, 3, stride);
    layer.emplace_back(out, out, 3, 1);
  }
}

Tensor ResidualLayer::operator()(const Tensor& x) const {
  Tensor y = layer[0](x);
  for (std::size_t i = 1; i < layer.size(); ++i) y = layer[i](relu(std::move(y)));
  return relu(std::move(y) + (shortcut ? (*shortcut)(x) : x));
}

ResidualNetwork::ResidualNetwork(const ResidualConfig& given)
    : config(given), embedder{ResidualConvolution(given.num_channels, given.embedding_size, 7, 2)} {
  int64_t width = config.embedding_size;
  for (std::size_t i = 0; i < config.hidden_sizes.size(); ++i) {
    ResidualStage& stage = encoder.stages.emplace_back();
    for (int64_t k = 0; k < config.depths[i]; ++k) {
      const bool halves = k == 0 && (i > 0 || config.downsample_in_first_stage);
      stage.layers.emplace_back(width, config.hidden_sizes[i], halves ? 2 : 1, config);
      width = config.hidden_sizes[i];
    }
  }
}

Tensor ResidualNetwork::operator()(const Tensor& images) const {
  Tensor x = max_pool2d(relu(embedder.embedder(images)), {3}, {.stride = {2}, .padding = {1}});
  for (const ResidualStage& stage : encoder.stages)
    for (const ResidualLayer& layer : stage.layers) x = layer(x);
  return x;
}

Tensor ResNetForImageClassification::operator()(const Tensor& images) const {
  const auto& [flat, project] = classifier;
  return project(flat(global_avg_pool(resnet(images))));
}

ResidualNetwork load_resnet(const std::filesystem::path& folder) {
  const nn::init::WithoutValues values_come_from_the_file;
  ResidualNetwork model(residual_config(read_settings(folder / "config.json")));
  StateDict weights = weights_of(folder, "resnet.", {});
  weights.erase("classifier.1.weight");  // the head of another task
  weights.erase("classifier.1.bias");
  nn::load_state_dict(model, weights);
  nn::eval(model);
  return model;
}

ResNetForImageClassification load_resnet_for_image_classification(const std::filesystem::path& folder) {
  const nn::init::WithoutValues values_come_from_the_file;
  const Settings settings = read_settings(folder / "config.json");
  const StateDict weights = weights_of(folder, "", {});
  const Tensor* head = weights.find("classifier.1.weight");
  if (head == nullptr || head->ndim() != 2)
    throw ValueError({.where = folder.string(), .problem = "the weights lack 'classifier.1.weight'"});
  const ResidualConfig config = residual_config(settings);
  ResNetForImageClassification model{ResidualNetwork(config),
                                     {nn::Flatten(), nn::Linear(config.hidden_sizes.back(), head->shape(0))},
                                     settings.labels()};
  nn::load_state_dict(model, weights);
  nn::eval(model);
  return model;
}

void save_pretrained(const ResidualNetwork& model, const std::filesystem::path& folder) {
  formats::save_checkpoint(folder, nn::state_dict(model));
  write_config(folder, config_of(model.config, "ResNetModel"));
}

void save_pretrained(const ResNetForImageClassification& model, const std::filesystem::path& folder) {
  formats::save_checkpoint(folder, nn::state_dict(model));
  text::Object config = config_of(model.resnet.config, "ResNetForImageClassification");
  add_labels(config, model.labels, std::get<1>(model.classifier).weight.shape()[0]);
  write_config(folder, std::move(config));
}

}  // namespace tenon::models
