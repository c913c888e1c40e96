#include "tenon/models/t5.h"

#include <cmath>
#include <limits>

#include "tenon/base/error.h"
#include "tenon/formats/checkpoint.h"
#include "tenon/models/settings.h"
#include "tenon/nn/init.h"
#include "tenon/nn/module.h"
#include "tenon/ops/attention.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"

namespace tenon::models {
namespace {

constexpr double kHidden = -std::numeric_limits<double>::infinity();

nn::Linear linear(int64_t in, int64_t out) { return {in, out, {.bias = false}}; }
nn::RMSNorm norm(const T5Config& c) { return nn::RMSNorm(c.d_model, {.epsilon = c.layer_norm_epsilon}); }

// [N, length, heads * width] -> [N, heads, length, width]
Tensor by_head(const Tensor& x, int64_t heads) {
  return transpose(reshape(x, {x.shape(0), x.shape(1), heads, x.shape(2) / heads}), 1, 2);
}

// What is added to scores so that padding is not seen; undefined without a mask.
Tensor mask_bias(const Tensor& mask) {
  return mask.defined() ? unsqueeze(where(not_equal(mask, Tensor(0)), 0.0, kHidden), {1, 2}) : Tensor();
}
Tensor added(const Tensor& a, const Tensor& b) { return !b.defined() ? a : a + b; }

text::Object config_of(const T5Config& c, const std::string& architecture) {
  return {{"architectures", text::List{architecture}},
          {"model_type", "t5"},
          {"vocab_size", c.vocab_size},
          {"d_model", c.d_model},
          {"d_kv", c.d_kv},
          {"d_ff", c.d_ff},
          {"num_layers", c.num_layers},
          {"num_decoder_layers", c.num_decoder_layers},
          {"num_heads", c.num_heads},
          {"relative_attention_num_buckets", c.relative_attention_num_buckets},
          {"relative_attention_max_distance", c.relative_attention_max_distance},
          {"layer_norm_epsilon", c.layer_norm_epsilon},
          {"feed_forward_proj", c.feed_forward_proj},
          {"is_encoder_decoder", true},
          {"tie_word_embeddings", c.tie_word_embeddings},
          {"scale_decoder_outputs", c.scale_decoder_outputs},
          {"pad_token_id", c.pad_token_id},
          {"eos_token_id", c.eos_token_id},
          {"decoder_start_token_id", c.decoder_start_token_id},
          {"torch_dtype", "float32"}};
}

// Files may repeat the token table for the encoder and the decoder.
StateDict t5_weights(const std::filesystem::path& folder) { return weights_of(folder, "", {"embed_tokens.weight"}); }

int64_t rows(const StateDict& weights, std::string_view name) {
  const Tensor* found = weights.find(name);
  if (found == nullptr || found->ndim() != 2)
    throw ValueError({.where = "load_t5", .problem = "the weights lack '" + std::string(name) + "'"});
  return found->shape(0);
}

template <class Model>
void save(const Model& model, const T5Config& config, const std::filesystem::path& folder,
          const std::string& architecture, int64_t labels) {
  formats::save_checkpoint(folder, nn::state_dict(model));
  text::Object values = config_of(config, architecture);
  add_labels(values, model.labels, labels);
  write_config(folder, std::move(values));
}

}  // namespace

T5Config t5_config(const Settings& s) {
  s.require("model_type", {"t5"});
  s.require("feed_forward_proj", {"relu", "gated-gelu", "gated-silu", "gelu_new", "silu"});
  T5Config c;
  c.vocab_size = s.size("vocab_size");
  c.d_model = s.size("d_model");
  c.d_kv = s.size("d_kv");
  c.d_ff = s.size("d_ff");
  c.num_layers = s.size("num_layers", Settings::kMostLayers);
  c.num_decoder_layers = s.count("num_decoder_layers", c.num_layers, Settings::kMostLayers);
  c.num_heads = s.size("num_heads");
  c.relative_attention_num_buckets = s.count("relative_attention_num_buckets", 32, 1 << 20);
  c.relative_attention_max_distance = s.count("relative_attention_max_distance", 128);
  if (c.relative_attention_num_buckets < 4 || c.relative_attention_num_buckets % 2 != 0 ||
      c.relative_attention_max_distance <= c.relative_attention_num_buckets / 2)
    text::fail_field(s.where, "relative_attention_num_buckets",
                     "an even number from 4, half of it below relative_attention_max_distance",
                     text::find_field(s.values, "relative_attention_num_buckets"));
  c.layer_norm_epsilon = s.real("layer_norm_epsilon", 1e-6);
  c.feed_forward_proj = s.string("feed_forward_proj", "relu");
  // Newer files say whether outputs are scaled; in older ones untied weights mean that they are not.
  c.scale_decoder_outputs = s.flag("scale_decoder_outputs", s.flag("tie_word_embeddings", true));
  c.pad_token_id = s.count("pad_token_id", 0);
  c.eos_token_id = s.count("eos_token_id", 1);
  c.decoder_start_token_id = s.count("decoder_start_token_id", c.pad_token_id);
  return c;
}

Tensor relative_position_buckets(const Tensor& distances, bool both_ways, int64_t buckets, int64_t most) {
  Tensor first = zeros_like(distances), far = maximum(-distances, 0);
  if (both_ways) {
    buckets /= 2;
    first = cast(distances > 0, DType::I64) * buckets;
    far = abs(distances);
  }
  const int64_t exact = buckets / 2;
  const Tensor share = log(cast(maximum(far, 1), DType::F32) / static_cast<double>(exact)) /
                       std::log(static_cast<double>(most) / static_cast<double>(exact));
  const Tensor wide = exact + cast(share * static_cast<double>(buckets - exact), DType::I64);
  const Tensor limited = minimum(wide, buckets - 1);
  return first + where(far < exact, far, limited);
}

T5Attention::T5Attention(const T5Config& c, bool with_positions)
    : heads(c.num_heads),
      buckets(c.relative_attention_num_buckets),
      most(c.relative_attention_max_distance),
      q(linear(c.d_model, c.num_heads * c.d_kv)),
      k(linear(c.d_model, c.num_heads * c.d_kv)),
      v(linear(c.d_model, c.num_heads * c.d_kv)),
      o(linear(c.num_heads * c.d_kv, c.d_model)) {
  if (with_positions) relative_attention_bias.emplace(buckets, heads);
}

KeyValueCache::Pair T5Attention::keys_and_values(const Tensor& x) const {
  return {by_head(k(x), heads), by_head(v(x), heads)};
}

Tensor T5Attention::operator()(const Tensor& x, const KeyValueCache::Pair& memory, const Tensor& bias) const {
  Tensor y = scaled_dot_product_attention(by_head(q(x), heads), memory.keys, memory.values, bias, {.scale = 1});
  y = transpose(std::move(y), 1, 2);
  return o(reshape(y, {y.shape(0), y.shape(1), y.shape(2) * y.shape(3)}));
}

Tensor T5Attention::position_bias(int64_t begin, int64_t queries, int64_t keys, bool both_ways) const {
  const Tensor from = unsqueeze(arange(begin, begin + queries), {1});
  const Tensor distances = unsqueeze(arange(keys), {0}) - from;
  const Tensor bias = (*relative_attention_bias)(relative_position_buckets(distances, both_ways, buckets, most));
  return unsqueeze(permute(bias, {2, 0, 1}), {0});
}

T5FeedForward::T5FeedForward(const T5Config& c) : activation(c.feed_forward_proj), wo(linear(c.d_ff, c.d_model)) {
  const bool gated = activation.starts_with("gated-");
  if (gated) activation = activation.substr(6);
  if (gated) wi_0.emplace(linear(c.d_model, c.d_ff)), wi_1.emplace(linear(c.d_model, c.d_ff));
  if (!gated) wi.emplace(linear(c.d_model, c.d_ff));
}

Tensor T5FeedForward::operator()(const Tensor& x) const {
  Tensor y = wi ? (*wi)(x) : (*wi_0)(x);
  y = activation == "relu" ? relu(std::move(y)) : activation == "silu" ? silu(std::move(y)) : gelu(std::move(y), true);
  return wo(wi ? y : y * (*wi_1)(x));
}

T5Encoder::T5Encoder(const T5Config& c) : final_layer_norm(norm(c)) {
  for (int64_t i = 0; i < c.num_layers; ++i)
    block.push_back({{T5SelfLayer{T5Attention(c, i == 0), norm(c)}, T5FeedLayer{T5FeedForward(c), norm(c)}}});
}

Tensor T5Encoder::operator()(Tensor x, const Tensor& mask) const {
  Tensor bias;
  for (const T5EncoderBlock& one : block) {
    const auto& [attend, feed] = one.layer;
    if (!bias.defined())
      bias = added(attend.SelfAttention.position_bias(0, x.shape(1), x.shape(1), true), mask_bias(mask));
    const Tensor normed = attend.layer_norm(x);
    x = x + attend.SelfAttention(normed, attend.SelfAttention.keys_and_values(normed), bias);
    x = x + feed.DenseReluDense(feed.layer_norm(x));
  }
  return final_layer_norm(x);
}

T5Decoder::T5Decoder(const T5Config& c) : final_layer_norm(norm(c)) {
  for (int64_t i = 0; i < c.num_decoder_layers; ++i)
    block.push_back({{T5SelfLayer{T5Attention(c, i == 0), norm(c)}, T5CrossLayer{T5Attention(c, false), norm(c)},
                      T5FeedLayer{T5FeedForward(c), norm(c)}}});
}

Tensor T5Decoder::operator()(Tensor x, const Tensor& encoded, const Tensor& mask, KeyValueCache* cache) const {
  const int64_t begin = cache == nullptr ? 0 : cache->length(), length = x.shape(1), keys = begin + length;
  const Tensor cross_bias = mask_bias(mask);
  Tensor bias;
  for (std::size_t i = 0; i < block.size(); ++i) {
    const auto& [attend, cross, feed] = block[i].layer;
    if (!bias.defined()) {
      const Tensor from = unsqueeze(arange(begin, keys), {1});
      const Tensor hidden = where(unsqueeze(arange(keys), {0}) <= from, 0.0, kHidden);
      bias = attend.SelfAttention.position_bias(begin, length, keys, false) + hidden;
    }
    const Tensor normed = attend.layer_norm(x);
    KeyValueCache::Pair memory = attend.SelfAttention.keys_and_values(normed);
    // Two entries of the cache for each block: what was written, and what was encoded, which stays as it is.
    if (cache != nullptr) memory = cache->extend(2 * i, memory.keys, memory.values);
    x = x + attend.SelfAttention(normed, memory, bias);
    const KeyValueCache::Pair* kept = cache == nullptr ? nullptr : cache->find(2 * i + 1);
    const KeyValueCache::Pair source = kept != nullptr ? *kept : cross.EncDecAttention.keys_and_values(encoded);
    if (cache != nullptr && kept == nullptr) cache->extend(2 * i + 1, source.keys, source.values);
    x = x + cross.EncDecAttention(cross.layer_norm(x), source, cross_bias);
    x = x + feed.DenseReluDense(feed.layer_norm(x));
  }
  if (cache != nullptr) cache->advance(length);
  return final_layer_norm(x);
}

T5::T5(const T5Config& given, T5Parts parts) : config(given), shared(given.vocab_size, given.d_model), encoder(given) {
  if (parts.decoder) decoder.emplace(given);
  if (parts.head) lm_head.emplace(linear(given.d_model, given.vocab_size));
  if (lm_head && config.tie_word_embeddings) lm_head->weight = shared.weight;
}

Tensor T5::encode(const Tensor& tokens, const Tensor& mask) const { return encoder(shared(tokens), mask); }

Tensor T5::decode(const Tensor& tokens, const Tensor& encoded, const Tensor& mask, KeyValueCache* cache) const {
  if (!decoder) throw ValueError({.where = "T5", .problem = "the model has no decoder"});
  return (*decoder)(shared(tokens), encoded, mask, cache);
}

Tensor T5::logits(const Tensor& decoded) const {
  if (!lm_head) throw ValueError({.where = "T5", .problem = "the model has no output projection"});
  return (*lm_head)(config.scale_decoder_outputs ? decoded / std::sqrt(static_cast<double>(config.d_model)) : decoded);
}

Tensor T5::operator()(const Tensor& tokens, const Tensor& decoder_tokens, const Tensor& mask) const {
  return logits(decode(decoder_tokens, encode(tokens, mask), mask));
}

CausalModel T5::writer(const Tensor& tokens, const Tensor& mask) const {
  return [model = *this, encoded = encode(tokens, mask), mask](const Tensor& written, KeyValueCache* cache) {
    return model.logits(model.decode(written, encoded, mask, cache));
  };
}

Tensor T5::shifted(const Tensor& tokens) const {
  const Tensor start = full({tokens.shape(0), 1}, static_cast<double>(config.decoder_start_token_id), tokens.dtype());
  return concat({start, narrow(tokens, 1, 0, tokens.shape(1) - 1)}, 1);
}

T5 load_t5(const std::filesystem::path& folder) {
  const nn::init::WithoutValues values_come_from_the_file;
  const Settings settings = read_settings(folder / "config.json");
  StateDict weights = t5_weights(folder);
  T5Config config = t5_config(settings);
  T5Parts parts;
  parts.decoder = weights.contains("decoder.final_layer_norm.weight");
  parts.head = parts.decoder && settings.architecture() != "T5Model";
  config.tie_word_embeddings = !weights.contains("lm_head.weight");
  T5 model(config, parts);
  nn::load_state_dict(model, weights);
  return model;
}

void save_pretrained(const T5& model, const std::filesystem::path& folder) {
  formats::save_checkpoint(folder, nn::state_dict(model));
  write_config(folder, config_of(model.config, model.lm_head   ? "T5ForConditionalGeneration"
                                               : model.decoder ? "T5Model"
                                                               : "T5EncoderModel"));
}

Tensor T5ForSequenceClassification::operator()(const Tensor& tokens, const Tensor& mask) const {
  const Tensor hidden = transformer.decode(transformer.shifted(tokens), transformer.encode(tokens, mask), mask);
  const Tensor ends = equal(tokens, Tensor(transformer.config.eos_token_id));
  const Tensor last = max(where(ends, unsqueeze(arange(tokens.shape(1)), {0}), 0), {1});
  const Tensor text = squeeze(take_along_axis(hidden, unsqueeze(last, {1, 2}), 1), {1});
  return classification_head.out_proj(tanh(classification_head.dense(text)));
}

Tensor T5ForTokenClassification::operator()(const Tensor& tokens, const Tensor& mask) const {
  return classifier(transformer.encode(tokens, mask));
}

T5ForSequenceClassification load_t5_for_sequence_classification(const std::filesystem::path& folder) {
  const nn::init::WithoutValues values_come_from_the_file;
  const Settings settings = read_settings(folder / "config.json");
  const StateDict weights = t5_weights(folder);
  const T5Config config = t5_config(settings);
  T5ForSequenceClassification model{T5(config, {.head = false}),
                                    {nn::Linear(config.d_model, config.d_model),
                                     nn::Linear(config.d_model, rows(weights, "classification_head.out_proj.weight"))},
                                    settings.labels()};
  nn::load_state_dict(model, weights);
  return model;
}

T5ForTokenClassification load_t5_for_token_classification(const std::filesystem::path& folder) {
  const nn::init::WithoutValues values_come_from_the_file;
  const Settings settings = read_settings(folder / "config.json");
  const StateDict weights = t5_weights(folder);
  const T5Config config = t5_config(settings);
  T5ForTokenClassification model{T5(config, {.decoder = false, .head = false}),
                                 nn::Linear(config.d_model, rows(weights, "classifier.weight")), settings.labels()};
  nn::load_state_dict(model, weights);
  return model;
}

void save_pretrained(const T5ForSequenceClassification& model, const std::filesystem::path& folder) {
  save(model, model.transformer.config, folder, "T5ForSequenceClassification",
       model.classification_head.out_proj.weight.shape()[0]);
}

void save_pretrained(const T5ForTokenClassification& model, const std::filesystem::path& folder) {
  save(model, model.transformer.config, folder, "T5ForTokenClassification", model.classifier.weight.shape()[0]);
}

}  // namespace tenon::models
