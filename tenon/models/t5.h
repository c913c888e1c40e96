// T5 (Raffel et al., arXiv 1910.10683), an encoder and a decoder with relative positions. Members are named as the
// published weights are: "encoder.block.0.layer.0.SelfAttention.q.weight".
//
//   models::T5 model = models::load_t5("t5-small");
//   auto written = models::generate(model.writer(tokens), {model.config.decoder_start_token_id}, options);
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "tenon/models/causal.h"
#include "tenon/nn/embedding.h"
#include "tenon/nn/linear.h"
#include "tenon/nn/norm.h"

namespace tenon::models {

struct T5Config {
  int64_t vocab_size = 32128;
  int64_t d_model = 512;
  int64_t d_kv = 64;  // width of a head
  int64_t d_ff = 2048;
  int64_t num_layers = 6;
  int64_t num_decoder_layers = 6;
  int64_t num_heads = 8;
  int64_t relative_attention_num_buckets = 32;
  int64_t relative_attention_max_distance = 128;
  double layer_norm_epsilon = 1e-6;
  std::string feed_forward_proj = "relu";  // "gated-gelu" and "gated-silu" have two projections in
  bool tie_word_embeddings = true;         // the output projection is the token table
  bool scale_decoder_outputs = true;       // by d_model^-0.5, before the output projection
  int64_t pad_token_id = 0;
  int64_t eos_token_id = 1;
  int64_t decoder_start_token_id = 0;
};

// Scores are not scaled; `bias` is added to them. Keys and values come from `memory`.
class T5Attention {
 public:
  T5Attention(const T5Config& config, bool with_positions);
  [[nodiscard]] Tensor operator()(const Tensor& x, const KeyValueCache::Pair& memory, const Tensor& bias) const;
  [[nodiscard]] KeyValueCache::Pair keys_and_values(const Tensor& x) const;
  // [1, heads, queries, keys]: by the distance between a query, the first of which is at `begin`, and a key.
  [[nodiscard]] Tensor position_bias(int64_t begin, int64_t queries, int64_t keys, bool both_ways) const;

  int64_t heads, buckets, most;
  nn::Linear q, k, v, o;
  std::optional<nn::Embedding> relative_attention_bias;  // in the first layer; all layers use it
  using Members = nn::Members<&T5Attention::q, &T5Attention::k, &T5Attention::v, &T5Attention::o,
                              &T5Attention::relative_attention_bias>;
};
// The bucket of each distance (key minus query), i64. Near ones have their own, farther ones share by logarithm.
Tensor relative_position_buckets(const Tensor& distances, bool both_ways, int64_t buckets, int64_t most);

class T5FeedForward {
 public:
  explicit T5FeedForward(const T5Config& config);
  [[nodiscard]] Tensor operator()(const Tensor& x) const;
  std::string activation;
  std::optional<nn::Linear> wi, wi_0, wi_1;
  nn::Linear wo;
  using Members = nn::Members<&T5FeedForward::wi, &T5FeedForward::wi_0, &T5FeedForward::wi_1, &T5FeedForward::wo>;
};

struct T5SelfLayer {
  T5Attention SelfAttention;
  nn::RMSNorm layer_norm;
};
struct T5CrossLayer {
  T5Attention EncDecAttention;
  nn::RMSNorm layer_norm;
};
struct T5FeedLayer {
  T5FeedForward DenseReluDense;
  nn::RMSNorm layer_norm;
};
struct T5EncoderBlock {
  std::tuple<T5SelfLayer, T5FeedLayer> layer;
};
struct T5DecoderBlock {
  std::tuple<T5SelfLayer, T5CrossLayer, T5FeedLayer> layer;
};

// Embedded tokens [N, length, d_model] -> hidden states of the same shape. The mask (1: a token, 0: padding) is
// [N, length] and optional.
class T5Encoder {
 public:
  explicit T5Encoder(const T5Config& config);
  [[nodiscard]] Tensor operator()(Tensor x, const Tensor& mask) const;
  std::vector<T5EncoderBlock> block;
  nn::RMSNorm final_layer_norm;
  using Members = nn::Members<&T5Encoder::block, &T5Encoder::final_layer_norm>;
};

class T5Decoder {
 public:
  explicit T5Decoder(const T5Config& config);
  [[nodiscard]] Tensor operator()(Tensor x, const Tensor& encoded, const Tensor& mask, KeyValueCache* cache) const;
  std::vector<T5DecoderBlock> block;
  nn::RMSNorm final_layer_norm;
  using Members = nn::Members<&T5Decoder::block, &T5Decoder::final_layer_norm>;
};

// Without a decoder it is the encoder alone, without a head what T5Model is.
struct T5Parts {
  bool decoder = true;
  bool head = true;
};
class T5 {
 public:
  explicit T5(const T5Config& config, T5Parts parts = {});
  [[nodiscard]] Tensor encode(const Tensor& tokens, const Tensor& mask = {}) const;
  // Hidden states of the decoder, which reads `tokens` and sees what was encoded. With a cache the tokens go on from
  // what it holds.
  [[nodiscard]] Tensor decode(const Tensor& tokens, const Tensor& encoded, const Tensor& mask = {},
                              KeyValueCache* cache = nullptr) const;
  // The logits [N, length, vocabulary] of the decoder's tokens.
  [[nodiscard]] Tensor operator()(const Tensor& tokens, const Tensor& decoder_tokens, const Tensor& mask = {}) const;
  [[nodiscard]] Tensor logits(const Tensor& decoded) const;
  // What writes the answer to these tokens: encoded once, used at every step.
  [[nodiscard]] CausalModel writer(const Tensor& tokens, const Tensor& mask = {}) const;
  // What a decoder reads that is to write `tokens`: the start token, then all but the last.
  [[nodiscard]] Tensor shifted(const Tensor& tokens) const;

  T5Config config;
  nn::Embedding shared;
  T5Encoder encoder;
  std::optional<T5Decoder> decoder;
  std::optional<nn::Linear> lm_head;  // shares the token table if tied
  using Members = nn::Members<&T5::shared, &T5::encoder, &T5::decoder, &T5::lm_head>;
};

// As the functions of pretrained.h.
[[nodiscard]] T5 load_t5(const std::filesystem::path& folder);
void save_pretrained(const T5& model, const std::filesystem::path& folder);

// ---- with the head of a task ----
struct T5ClassificationHead {
  nn::Linear dense, out_proj;
};
// Logits of labels for each text [N, labels], by the decoder's state at the last end-of-text token.
struct T5ForSequenceClassification {
  T5 transformer;
  T5ClassificationHead classification_head;
  std::vector<std::string> labels;
  [[nodiscard]] Tensor operator()(const Tensor& tokens, const Tensor& mask = {}) const;
};
// Logits of labels for each token [N, length, labels], by the encoder.
struct T5ForTokenClassification {
  T5 transformer;
  nn::Linear classifier;
  std::vector<std::string> labels;
  [[nodiscard]] Tensor operator()(const Tensor& tokens, const Tensor& mask = {}) const;
};
[[nodiscard]] T5ForSequenceClassification load_t5_for_sequence_classification(const std::filesystem::path& folder);
[[nodiscard]] T5ForTokenClassification load_t5_for_token_classification(const std::filesystem::path& folder);
void save_pretrained(const T5ForSequenceClassification& model, const std::filesystem::path& folder);
void save_pretrained(const T5ForTokenClassification& model, const std::filesystem::path& folder);

}  // namespace tenon::models
