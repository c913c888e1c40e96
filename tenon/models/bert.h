// BERT (Devlin et al., arXiv 1810.04805) and RoBERTa (Liu et al., arXiv 1907.11692), which differ in where positions
// begin and in the names around them. Members are named as the published weights are:
// "encoder.layer.0.attention.self.query.weight".
#pragma once

#include <optional>
#include <vector>

#include "tenon/nn/embedding.h"
#include "tenon/nn/linear.h"
#include "tenon/nn/norm.h"

namespace tenon::models {

struct BertConfig {
  int64_t vocab_size = 30522;
  int64_t hidden_size = 768;
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 12;
  int64_t intermediate_size = 3072;
  int64_t max_position_embeddings = 512;
  int64_t type_vocab_size = 2;
  double layer_norm_eps = 1e-12;
  int64_t first_position = 0;  // RoBERTa: the padding token's number + 1
  int64_t padding_token = -1;  // RoBERTa: its positions are not counted; -1: every token is
  bool pooler = true;
};

class BertEmbeddings {
 public:
  explicit BertEmbeddings(const BertConfig& config);
  [[nodiscard]] Tensor operator()(const Tensor& tokens, const Tensor& type_ids) const;
  int64_t first_position, padding_token;
  nn::Embedding word_embeddings, position_embeddings, token_type_embeddings;
  nn::LayerNorm LayerNorm;
  using Members = nn::Members<&BertEmbeddings::word_embeddings, &BertEmbeddings::position_embeddings,
                              &BertEmbeddings::token_type_embeddings, &BertEmbeddings::LayerNorm>;
};

class BertSelfAttention {
 public:
  explicit BertSelfAttention(const BertConfig& config);
  [[nodiscard]] Tensor operator()(const Tensor& x, const Tensor& mask) const;
  int64_t heads;
  nn::Linear query, key, value;
  using Members = nn::Members<&BertSelfAttention::query, &BertSelfAttention::key, &BertSelfAttention::value>;
};

// LayerNorm(dense(x) + residual).
class BertOutput {
 public:
  BertOutput(int64_t in, const BertConfig& config);
  [[nodiscard]] Tensor operator()(const Tensor& x, const Tensor& residual) const;
  nn::Linear dense;
  nn::LayerNorm LayerNorm;
  using Members = nn::Members<&BertOutput::dense, &BertOutput::LayerNorm>;
};

class BertAttention {
 public:
  explicit BertAttention(const BertConfig& config);
  [[nodiscard]] Tensor operator()(const Tensor& x, const Tensor& mask) const;
  BertSelfAttention self;
  BertOutput output;
  using Members = nn::Members<&BertAttention::self, &BertAttention::output>;
};

class BertDense {
 public:
  BertDense(int64_t in, int64_t out) : dense(in, out) {}
  nn::Linear dense;
  using Members = nn::Members<&BertDense::dense>;
};

class BertLayer {
 public:
  explicit BertLayer(const BertConfig& config);
  [[nodiscard]] Tensor operator()(const Tensor& x, const Tensor& mask) const;
  BertAttention attention;
  BertDense intermediate;
  BertOutput output;
  using Members = nn::Members<&BertLayer::attention, &BertLayer::intermediate, &BertLayer::output>;
};

class BertEncoder {
 public:
  explicit BertEncoder(const BertConfig& config);
  std::vector<BertLayer> layer;
  using Members = nn::Members<&BertEncoder::layer>;
};

struct BertResult {
  Tensor hidden;  // [N, length, hidden size]
  Tensor pooled;  // [N, hidden size]; undefined without a pooler
};

class Bert {
 public:
  explicit Bert(const BertConfig& config);
  // Token numbers [N, length]; the mask (1: a token, 0: padding) and the type ids are of the same shape and optional.
  [[nodiscard]] BertResult operator()(const Tensor& tokens, const Tensor& attention_mask = {},
                                      const Tensor& type_ids = {}) const;

  BertConfig config;
  BertEmbeddings embeddings;
  BertEncoder encoder;
  std::optional<BertDense> pooler;
  using Members = nn::Members<&Bert::embeddings, &Bert::encoder, &Bert::pooler>;
};

}  // namespace tenon::models
