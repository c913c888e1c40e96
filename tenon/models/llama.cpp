#include "tenon/models/llama.h"

#include "tenon/ops/attention.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"

namespace tenon::models {
namespace {

nn::Linear linear(int64_t in, int64_t out, bool bias) { return {in, out, {.bias = bias}}; }

// True where a query (the last `queries` of `keys` positions) may see a key: not later, and within the window.
Tensor window_mask(int64_t queries, int64_t keys, int64_t window) {
  const Tensor query = reshape(arange(keys - queries, keys), {queries, 1});
  const Tensor key = reshape(arange(keys), {1, keys});
  return logical_and(less_equal(key, query), greater(key, query - Tensor(window)));
}

}  // namespace

LlamaAttention::LlamaAttention(const LlamaConfig& c, std::size_t number)
    : layer(number),
      heads(c.num_attention_heads),
      kv_heads(c.num_key_value_heads),
      head_dim(c.head_dim),
      window(c.sliding_window),
      rotary(c.rotary),
      q_proj(linear(c.hidden_size, heads * head_dim, c.qkv_bias)),
      k_proj(linear(c.hidden_size, kv_heads * head_dim, c.qkv_bias)),
      v_proj(linear(c.hidden_size, kv_heads * head_dim, c.qkv_bias)),
      o_proj(linear(heads * head_dim, c.hidden_size, c.output_bias)) {}

Tensor LlamaAttention::operator()(const Tensor& x, KeyValueCache* cache) const {
  const int64_t batch = x.shape(0), length = x.shape(1);
  const auto by_head = [&](Tensor y, int64_t count) {
    return transpose(reshape(std::move(y), {batch, length, count, head_dim}), 1, 2);
  };
  const int64_t start = cache == nullptr ? 0 : cache->length();
  const Tensor q = rotary(by_head(q_proj(x), heads), start);
  Tensor k = rotary(by_head(k_proj(x), kv_heads), start);
  Tensor v = by_head(v_proj(x), kv_heads);
  if (cache != nullptr) {
    auto [keys, values] = cache->extend(layer, std::move(k), std::move(v));
    k = std::move(keys), v = std::move(values);
  }
  const int64_t keys = k.shape(2);
  Tensor y = window > 0 && keys > window ? scaled_dot_product_attention(q, k, v, window_mask(length, keys, window))
                                         : scaled_dot_product_attention(q, k, v, {}, {.causal = true});
  return o_proj(reshape(transpose(std::move(y), 1, 2), {batch, length, heads * head_dim}));
}

LlamaMLP::LlamaMLP(const LlamaConfig& c)
    : gate_proj(linear(c.hidden_size, c.intermediate_size, c.mlp_bias)),
      up_proj(linear(c.hidden_size, c.intermediate_size, c.mlp_bias)),
      down_proj(linear(c.intermediate_size, c.hidden_size, c.mlp_bias)) {}

Tensor LlamaMLP::operator()(const Tensor& x) const { return down_proj(silu(gate_proj(x)) * up_proj(x)); }

LlamaLayer::LlamaLayer(const LlamaConfig& c, std::size_t number)
    : self_attn(c, number),
      mlp(c),
      input_layernorm(c.hidden_size, {.epsilon = c.rms_norm_eps}),
      post_attention_layernorm(c.hidden_size, {.epsilon = c.rms_norm_eps}) {}

Tensor LlamaLayer::operator()(Tensor x, KeyValueCache* cache) const {
  x = x + self_attn(input_layernorm(x), cache);
  return x + mlp(post_attention_layernorm(x));
}

LlamaModel::LlamaModel(const LlamaConfig& c)
    : embed_tokens(c.vocab_size, c.hidden_size), norm(c.hidden_size, {.epsilon = c.rms_norm_eps}) {
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) layers.emplace_back(c, static_cast<std::size_t>(i));
}

Tensor LlamaModel::operator()(const Tensor& tokens, KeyValueCache* cache) const {
  Tensor x = embed_tokens(tokens);
  for (const auto& layer : layers) x = layer(std::move(x), cache);
  if (cache != nullptr) cache->advance(tokens.shape(1));
  return norm(x);
}

Llama::Llama(const LlamaConfig& given)
    : config(given), model(given), lm_head(linear(given.hidden_size, given.vocab_size, false)) {
  if (config.tie_word_embeddings) lm_head.weight = model.embed_tokens.weight;
}

Tensor Llama::operator()(const Tensor& tokens, KeyValueCache* cache) const { return lm_head(model(tokens, cache)); }

}  // namespace tenon::models
