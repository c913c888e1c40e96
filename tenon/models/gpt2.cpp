#include "tenon/models/gpt2.h"

#include <fmt/format.h>

#include "tenon/base/error.h"
#include "tenon/nn/init.h"
#include "tenon/ops/attention.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"

namespace tenon::models {

Conv1D::Conv1D(int64_t in, int64_t out) : weight(nn::init::normal({in, out}, 0, 0.02)), bias(nn::init::zeros({out})) {}

Tensor Conv1D::operator()(const Tensor& x) const { return matmul(x, weight) + bias; }

GPT2Attention::GPT2Attention(const GPT2Config& c, std::size_t number)
    : layer(number), heads(c.n_head), c_attn(c.n_embd, 3 * c.n_embd), c_proj(c.n_embd, c.n_embd) {}

Tensor GPT2Attention::operator()(const Tensor& x, KeyValueCache* cache) const {
  const int64_t batch = x.shape(0), length = x.shape(1), width = x.shape(2);
  const Tensor qkv = reshape(c_attn(x), {batch, length, 3, heads, width / heads});
  const auto part = [&](int64_t which) { return transpose(select(qkv, 2, which), 1, 2); };
  Tensor k = part(1), v = part(2);
  if (cache != nullptr) {
    auto [keys, values] = cache->extend(layer, std::move(k), std::move(v));
    k = std::move(keys), v = std::move(values);
  }
  Tensor y = scaled_dot_product_attention(part(0), k, v, {}, {.causal = true});
  return c_proj(reshape(transpose(std::move(y), 1, 2), {batch, length, width}));
}

GPT2MLP::GPT2MLP(const GPT2Config& c)
    : c_fc(c.n_embd, c.n_inner > 0 ? c.n_inner : 4 * c.n_embd),
      c_proj(c.n_inner > 0 ? c.n_inner : 4 * c.n_embd, c.n_embd) {}

Tensor GPT2MLP::operator()(const Tensor& x) const { return c_proj(gelu(c_fc(x), true)); }

GPT2Block::GPT2Block(const GPT2Config& c, std::size_t number)
    : ln_1(c.n_embd, {.epsilon = c.layer_norm_epsilon}),
      attn(c, number),
      ln_2(c.n_embd, {.epsilon = c.layer_norm_epsilon}),
      mlp(c) {}

Tensor GPT2Block::operator()(Tensor x, KeyValueCache* cache) const {
  x = x + attn(ln_1(x), cache);
  return x + mlp(ln_2(x));
}

GPT2Model::GPT2Model(const GPT2Config& c)
    : wte(c.vocab_size, c.n_embd), wpe(c.n_positions, c.n_embd), ln_f(c.n_embd, {.epsilon = c.layer_norm_epsilon}) {
  for (int64_t i = 0; i < c.n_layer; ++i) h.emplace_back(c, static_cast<std::size_t>(i));
}

Tensor GPT2Model::operator()(const Tensor& tokens, KeyValueCache* cache) const {
  const int64_t start = cache == nullptr ? 0 : cache->length(), end = start + tokens.shape(1);
  const int64_t most = wpe.weight.shape()[0];
  if (end > most)
    throw ShapeError(
        {"GPT2", "the text is longer than the model", fmt::format("at most {} tokens", most), std::to_string(end), {}});
  Tensor x = wte(tokens) + wpe(arange(start, end));
  for (const auto& block : h) x = block(std::move(x), cache);
  if (cache != nullptr) cache->advance(tokens.shape(1));
  return ln_f(x);
}

GPT2::GPT2(const GPT2Config& given) : config(given), transformer(given) {}

Tensor GPT2::operator()(const Tensor& tokens, KeyValueCache* cache) const {
  return matmul(transformer(tokens, cache), transpose(transformer.wte.weight));
}

}  // namespace tenon::models
