#include "tenon/models/bert.h"

#include "tenon/ops/attention.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/cumulative.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"

namespace tenon::models {

BertEmbeddings::BertEmbeddings(const BertConfig& c)
    : first_position(c.first_position),
      padding_token(c.padding_token),
      word_embeddings(c.vocab_size, c.hidden_size),
      position_embeddings(c.max_position_embeddings, c.hidden_size),
      token_type_embeddings(c.type_vocab_size, c.hidden_size),
      LayerNorm(c.hidden_size, {.epsilon = c.layer_norm_eps}) {}

Tensor BertEmbeddings::operator()(const Tensor& tokens, const Tensor& type_ids) const {
  Tensor positions = reshape(arange(first_position, first_position + tokens.shape(1)), {1, tokens.shape(1)});
  if (padding_token >= 0) {
    // The first real token is at first_position, padding stays in front of it.
    const Tensor real = cast(not_equal(tokens, Tensor(padding_token)), DType::I64);
    positions = cumsum(real, 1) * real + Tensor(first_position - 1);
  }
  const Tensor types = type_ids.defined() ? type_ids : zeros(tokens.shape(), DType::I64);
  return LayerNorm(word_embeddings(tokens) + token_type_embeddings(types) + position_embeddings(positions));
}

BertSelfAttention::BertSelfAttention(const BertConfig& c)
    : heads(c.num_attention_heads),
      query(c.hidden_size, c.hidden_size),
      key(c.hidden_size, c.hidden_size),
      value(c.hidden_size, c.hidden_size) {}

Tensor BertSelfAttention::operator()(const Tensor& x, const Tensor& mask) const {
  const int64_t batch = x.shape(0), length = x.shape(1), width = x.shape(2);
  const auto by_head = [&](const nn::Linear& projection) {
    return transpose(reshape(projection(x), {batch, length, heads, width / heads}), 1, 2);
  };
  Tensor y = scaled_dot_product_attention(by_head(query), by_head(key), by_head(value), mask);
  return reshape(transpose(std::move(y), 1, 2), {batch, length, width});
}

BertOutput::BertOutput(int64_t in, const BertConfig& c)
    : dense(in, c.hidden_size), LayerNorm(c.hidden_size, {.epsilon = c.layer_norm_eps}) {}
Tensor BertOutput::operator()(const Tensor& x, const Tensor& residual) const { return LayerNorm(dense(x) + residual); }

BertAttention::BertAttention(const BertConfig& c) : self(c), output(c.hidden_size, c) {}
Tensor BertAttention::operator()(const Tensor& x, const Tensor& mask) const { return output(self(x, mask), x); }

BertLayer::BertLayer(const BertConfig& c)
    : attention(c), intermediate(c.hidden_size, c.intermediate_size), output(c.intermediate_size, c) {}
Tensor BertLayer::operator()(const Tensor& x, const Tensor& mask) const {
  const Tensor y = attention(x, mask);
  return output(gelu(intermediate.dense(y)), y);
}

BertEncoder::BertEncoder(const BertConfig& c) {
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) layer.emplace_back(c);
}

Bert::Bert(const BertConfig& given) : config(given), embeddings(given), encoder(given) {
  if (config.pooler) pooler.emplace(config.hidden_size, config.hidden_size);
}

BertResult Bert::operator()(const Tensor& tokens, const Tensor& attention_mask, const Tensor& type_ids) const {
  Tensor mask;
  if (attention_mask.defined()) mask = unsqueeze(not_equal(attention_mask, Tensor(0)), {1, 2});  // [N, 1, 1, length]
  Tensor x = embeddings(tokens, type_ids);
  for (const auto& layer : encoder.layer) x = layer(x, mask);
  BertResult result{x, {}};
  if (pooler) result.pooled = tanh(pooler->dense(select(x, 1, 0)));
  return result;
}

}  // namespace tenon::models
