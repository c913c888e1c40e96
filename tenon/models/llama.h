// The Llama family (Touvron et al., arXiv 2302.13971): Llama, Mistral and Qwen2 differ in a few sizes and biases.
// Members are named as the published weights are: "model.layers.0.self_attn.q_proj.weight".
#pragma once

#include <vector>

#include "tenon/models/causal.h"
#include "tenon/models/rotary.h"
#include "tenon/nn/embedding.h"
#include "tenon/nn/linear.h"
#include "tenon/nn/norm.h"

namespace tenon::models {

struct LlamaConfig {
  int64_t vocab_size = 32000;
  int64_t hidden_size = 4096;
  int64_t intermediate_size = 11008;
  int64_t num_hidden_layers = 32;
  int64_t num_attention_heads = 32;
  int64_t num_key_value_heads = 32;
  int64_t head_dim = 128;
  int64_t max_position_embeddings = 2048;  // what it was trained for; not a limit
  double rms_norm_eps = 1e-6;
  bool qkv_bias = false;     // of the queries', keys' and values' projections (Qwen2)
  bool output_bias = false;  // of the attention's output
  bool mlp_bias = false;
  bool tie_word_embeddings = false;
  int64_t sliding_window = 0;  // a position sees this many, itself included (Mistral); 0: all
  RotaryOptions rotary;        // head_width is head_dim
};

class LlamaAttention {
 public:
  LlamaAttention(const LlamaConfig& config, std::size_t layer);
  [[nodiscard]] Tensor operator()(const Tensor& x, KeyValueCache* cache) const;

  std::size_t layer;
  int64_t heads, kv_heads, head_dim, window;
  Rotary rotary;
  nn::Linear q_proj, k_proj, v_proj, o_proj;
  using Members =
      nn::Members<&LlamaAttention::q_proj, &LlamaAttention::k_proj, &LlamaAttention::v_proj, &LlamaAttention::o_proj>;
};

class LlamaMLP {
 public:
  explicit LlamaMLP(const LlamaConfig& config);
  [[nodiscard]] Tensor operator()(const Tensor& x) const;

  nn::Linear gate_proj, up_proj, down_proj;
  using Members = nn::Members<&LlamaMLP::gate_proj, &LlamaMLP::up_proj, &LlamaMLP::down_proj>;
};

class LlamaLayer {
 public:
  LlamaLayer(const LlamaConfig& config, std::size_t layer);
  [[nodiscard]] Tensor operator()(Tensor x, KeyValueCache* cache) const;

  LlamaAttention self_attn;
  LlamaMLP mlp;
  nn::RMSNorm input_layernorm, post_attention_layernorm;
  using Members = nn::Members<&LlamaLayer::self_attn, &LlamaLayer::mlp, &LlamaLayer::input_layernorm,
                              &LlamaLayer::post_attention_layernorm>;
};

class LlamaModel {
 public:
  explicit LlamaModel(const LlamaConfig& config);
  // Token numbers [N, length] -> hidden states [N, length, hidden size].
  [[nodiscard]] Tensor operator()(const Tensor& tokens, KeyValueCache* cache = nullptr) const;

  nn::Embedding embed_tokens;
  std::vector<LlamaLayer> layers;
  nn::RMSNorm norm;
  using Members = nn::Members<&LlamaModel::embed_tokens, &LlamaModel::layers, &LlamaModel::norm>;
};

class Llama {
 public:
  explicit Llama(const LlamaConfig& config);
  // Token numbers [N, length] -> logits [N, length, vocabulary]. With a cache, the tokens go on from what it holds.
  [[nodiscard]] Tensor operator()(const Tensor& tokens, KeyValueCache* cache = nullptr) const;

  LlamaConfig config;
  LlamaModel model;
  nn::Linear lm_head;  // shares the token table if tied
  using Members = nn::Members<&Llama::model, &Llama::lm_head>;
};

}  // namespace tenon::models
