#include "tenon/models/vit.h"

#include <string>

#include "tenon/base/error.h"
#include "tenon/formats/checkpoint.h"
#include "tenon/models/settings.h"
#include "tenon/nn/init.h"
#include "tenon/nn/module.h"
#include "tenon/ops/attention.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"

namespace tenon::models {
namespace {

nn::Linear linear(int64_t in, int64_t out, bool bias = true) { return {in, out, {.bias = bias}}; }

text::Object config_of(const ViTConfig& c, const char* architecture) {
  return {{"architectures", text::List{architecture}},
          {"model_type", "vit"},
          {"hidden_size", c.hidden_size},
          {"num_hidden_layers", c.num_hidden_layers},
          {"num_attention_heads", c.num_attention_heads},
          {"intermediate_size", c.intermediate_size},
          {"image_size", c.image_size},
          {"patch_size", c.patch_size},
          {"num_channels", c.num_channels},
          {"hidden_act", "gelu"},
          {"layer_norm_eps", c.layer_norm_eps},
          {"qkv_bias", c.qkv_bias},
          {"torch_dtype", "float32"}};
}

}  // namespace

ViTConfig vit_config(const Settings& s) {
  s.require("model_type", {"vit"});
  s.require("hidden_act", {"gelu"});
  ViTConfig c;
  const auto size = [&](std::string_view name, int64_t fallback, int64_t most = 1 << 20) {
    const int64_t value = s.count(name, fallback, most);
    if (value == 0) text::fail_field(s.where, name, "at least 1", text::find_field(s.values, name));
    return value;
  };
  c.hidden_size = size("hidden_size", 768);
  c.num_hidden_layers = size("num_hidden_layers", 12, Settings::kMostLayers);
  c.num_attention_heads = size("num_attention_heads", 12);
  c.intermediate_size = size("intermediate_size", 3072);
  c.image_size = size("image_size", 224);
  c.patch_size = size("patch_size", 16);
  c.num_channels = size("num_channels", 3);
  c.layer_norm_eps = s.real("layer_norm_eps", 1e-12);
  c.qkv_bias = s.flag("qkv_bias", true);
  s.divides("num_attention_heads", c.num_attention_heads, "hidden_size", c.hidden_size);
  if (c.image_size < c.patch_size)
    text::fail_field(s.where, "patch_size", "at most image_size", text::find_field(s.values, "patch_size"));
  return c;
}

ViTEmbeddings::ViTEmbeddings(const ViTConfig& c)
    : cls_token(nn::init::zeros({1, 1, c.hidden_size})),
      position_embeddings(nn::init::normal(
          {1, (c.image_size / c.patch_size) * (c.image_size / c.patch_size) + 1, c.hidden_size}, 0, 0.02)),
      patch_embeddings{nn::Conv2d(c.num_channels, c.hidden_size, c.patch_size, {.stride = c.patch_size})} {}

Tensor ViTEmbeddings::operator()(const Tensor& images) const {
  // [N, hidden, rows, columns] -> [N, patches, hidden]
  const Tensor patches = transpose(flatten(patch_embeddings.projection(images), 2), 1, 2);
  const Tensor first = expand(cls_token.value(), {images.shape(0), 1, patches.shape(2)});
  return concat({first, patches}, 1) + position_embeddings.value();
}

ViTLayer::ViTLayer(const ViTConfig& c)
    : heads(c.num_attention_heads),
      attention{{linear(c.hidden_size, c.hidden_size, c.qkv_bias), linear(c.hidden_size, c.hidden_size, c.qkv_bias),
                 linear(c.hidden_size, c.hidden_size, c.qkv_bias)},
                {linear(c.hidden_size, c.hidden_size)}},
      intermediate{linear(c.hidden_size, c.intermediate_size)},
      output{linear(c.intermediate_size, c.hidden_size)},
      layernorm_before(c.hidden_size, {.epsilon = c.layer_norm_eps}),
      layernorm_after(c.hidden_size, {.epsilon = c.layer_norm_eps}) {}

Tensor ViTLayer::operator()(Tensor x) const {
  const int64_t batch = x.shape(0), length = x.shape(1), width = x.shape(2);
  const Tensor normed = layernorm_before(x);
  const auto by_head = [&](const nn::Linear& projection) {
    return transpose(reshape(projection(normed), {batch, length, heads, width / heads}), 1, 2);
  };
  const auto& [query, key, value] = attention.attention;
  Tensor y = scaled_dot_product_attention(by_head(query), by_head(key), by_head(value));
  x = x + attention.output.dense(reshape(transpose(std::move(y), 1, 2), {batch, length, width}));
  return x + output.dense(gelu(intermediate.dense(layernorm_after(x))));
}

ViT::ViT(const ViTConfig& given)
    : config(given), embeddings(given), layernorm(given.hidden_size, {.epsilon = given.layer_norm_eps}) {
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) encoder.layer.emplace_back(config);
  if (config.pooler) pooler.emplace(ViTDense{linear(config.hidden_size, config.hidden_size)});
}

ViTResult ViT::operator()(const Tensor& images) const {
  Tensor x = embeddings(images);
  for (const auto& layer : encoder.layer) x = layer(std::move(x));
  ViTResult result{layernorm(x), {}};
  if (pooler) result.pooled = tanh(pooler->dense(select(result.hidden, 1, 0)));
  return result;
}

ViT load_vit(const std::filesystem::path& folder) {
  const nn::init::WithoutValues values_come_from_the_file;
  ViTConfig config = vit_config(read_settings(folder / "config.json"));
  // A classifier's file has the model under "vit." and its head beside it.
  constexpr std::string_view kPrefix = "vit.";
  StateDict weights;
  for (const auto& [name, tensor] : formats::load_checkpoint(folder)) {
    const std::string bare = name.starts_with(kPrefix) ? name.substr(kPrefix.size()) : name;
    if (!bare.starts_with("classifier.")) weights.set(bare, tensor);
  }
  config.pooler = weights.contains("pooler.dense.weight");
  ViT model(config);
  nn::load_state_dict(model, weights);
  return model;
}

void save_pretrained(const ViT& model, const std::filesystem::path& folder) {
  formats::save_checkpoint(folder, nn::state_dict(model));
  write_config(folder, config_of(model.config, "ViTModel"));
}

ViTForImageClassification load_vit_for_image_classification(const std::filesystem::path& folder) {
  const nn::init::WithoutValues values_come_from_the_file;
  const Settings settings = read_settings(folder / "config.json");
  ViTConfig config = vit_config(settings);
  const StateDict weights = weights_of(folder, "", {});
  const Tensor* head = weights.find("classifier.weight");
  if (head == nullptr || head->ndim() != 2)
    throw ValueError({.where = folder.string(), .problem = "the weights lack 'classifier.weight'"});
  config.pooler = weights.contains("vit.pooler.dense.weight");
  ViTForImageClassification model{ViT(config), linear(config.hidden_size, head->shape(0)), settings.labels()};
  nn::load_state_dict(model, weights);
  return model;
}

void save_pretrained(const ViTForImageClassification& model, const std::filesystem::path& folder) {
  formats::save_checkpoint(folder, nn::state_dict(model));
  text::Object config = config_of(model.vit.config, "ViTForImageClassification");
  add_labels(config, model.labels, model.classifier.weight.shape()[0]);
  write_config(folder, std::move(config));
}

}  // namespace tenon::models
