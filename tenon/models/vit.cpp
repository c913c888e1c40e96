#include "tenon/models/vit.h"

#include <string>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/formats/checkpoint.h"
#include "tenon/nn/init.h"
#include "tenon/nn/module.h"
#include "tenon/ops/attention.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/text/value.h"

namespace tenon::models {
namespace {

nn::Linear linear(int64_t in, int64_t out, bool bias = true) { return {in, out, {.bias = bias}}; }

ViTConfig read_config(const std::filesystem::path& path) {
  const std::string where = path.string();
  const text::Value values = text::parse_json(read_text_file(path), where);
  const auto size = [&](std::string_view name, int64_t fallback, int64_t most = 1 << 20) {
    const int64_t value = text::count_field(values, name, fallback, most, where);
    if (value == 0) text::fail_field(where, name, "at least 1", text::find_field(values, name));
    return value;
  };
  const std::string type = text::string_field(values, "model_type", "", where);
  if (type != "vit" || text::string_field(values, "hidden_act", "gelu", where) != "gelu")
    throw UnsupportedError(
        {.where = where, .problem = "not a vision transformer with gelu", .expected = "model_type vit", .got = type});
  ViTConfig c;
  c.hidden_size = size("hidden_size", 768);
  c.num_hidden_layers = size("num_hidden_layers", 12, 4096);
  c.num_attention_heads = size("num_attention_heads", 12);
  c.intermediate_size = size("intermediate_size", 3072);
  c.image_size = size("image_size", 224);
  c.patch_size = size("patch_size", 16);
  c.num_channels = size("num_channels", 3);
  c.layer_norm_eps = text::real_field(values, "layer_norm_eps", 1e-12, where);
  c.qkv_bias = text::bool_field(values, "qkv_bias", true, where);
  if (c.hidden_size % c.num_attention_heads != 0)
    text::fail_field(where, "num_attention_heads", "a divisor of hidden_size",
                     text::find_field(values, "num_attention_heads"));
  if (c.image_size < c.patch_size)
    text::fail_field(where, "patch_size", "at most image_size", text::find_field(values, "patch_size"));
  return c;
}

}  // namespace

ViTEmbeddings::ViTEmbeddings(const ViTConfig& c)
    : cls_token(zeros({1, 1, c.hidden_size})),
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
  ViTConfig config = read_config(folder / "config.json");
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
  const ViTConfig& c = model.config;
  const text::Value config(text::Object{{"architectures", text::List{"ViTModel"}},
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
                                        {"torch_dtype", "float32"}});
  write_file_atomic(folder / "config.json", text::to_json(config, 2) + "\n");
}

}  // namespace tenon::models
