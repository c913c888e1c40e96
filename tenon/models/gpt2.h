// GPT-2 (Radford et al., 2019) with the members' names and layouts of the published weights: its projections ("Conv1D")
// hold their matrix as [in, out].
#pragma once

#include <vector>

#include "tenon/models/causal.h"
#include "tenon/nn/embedding.h"
#include "tenon/nn/norm.h"

namespace tenon::models {

struct GPT2Config {
  int64_t vocab_size = 50257;
  int64_t n_positions = 1024;
  int64_t n_embd = 768;
  int64_t n_layer = 12;
  int64_t n_head = 12;
  int64_t n_inner = 0;  // 0: four times the width
  double layer_norm_epsilon = 1e-5;
};

// y = x W + b with W [in, out].
class Conv1D {
 public:
  Conv1D(int64_t in, int64_t out);
  [[nodiscard]] Tensor operator()(const Tensor& x) const;
  Variable weight, bias;
  using Members = nn::Members<&Conv1D::weight, &Conv1D::bias>;
};

class GPT2Attention {
 public:
  GPT2Attention(const GPT2Config& config, std::size_t layer);
  [[nodiscard]] Tensor operator()(const Tensor& x, KeyValueCache* cache) const;
  std::size_t layer;
  int64_t heads;
  Conv1D c_attn, c_proj;
  using Members = nn::Members<&GPT2Attention::c_attn, &GPT2Attention::c_proj>;
};

class GPT2MLP {
 public:
  explicit GPT2MLP(const GPT2Config& config);
  [[nodiscard]] Tensor operator()(const Tensor& x) const;
  Conv1D c_fc, c_proj;
  using Members = nn::Members<&GPT2MLP::c_fc, &GPT2MLP::c_proj>;
};

class GPT2Block {
 public:
  GPT2Block(const GPT2Config& config, std::size_t layer);
  [[nodiscard]] Tensor operator()(Tensor x, KeyValueCache* cache) const;
  nn::LayerNorm ln_1;
  GPT2Attention attn;
  nn::LayerNorm ln_2;
  GPT2MLP mlp;
  using Members = nn::Members<&GPT2Block::ln_1, &GPT2Block::attn, &GPT2Block::ln_2, &GPT2Block::mlp>;
};

class GPT2Model {
 public:
  explicit GPT2Model(const GPT2Config& config);
  [[nodiscard]] Tensor operator()(const Tensor& tokens, KeyValueCache* cache = nullptr) const;
  nn::Embedding wte, wpe;
  std::vector<GPT2Block> h;
  nn::LayerNorm ln_f;
  using Members = nn::Members<&GPT2Model::wte, &GPT2Model::wpe, &GPT2Model::h, &GPT2Model::ln_f>;
};

// Token numbers [N, length] -> logits [N, length, vocabulary]; the output projection is the token table.
// Errors: ShapeError for more positions than the model has.
class GPT2 {
 public:
  explicit GPT2(const GPT2Config& config);
  [[nodiscard]] Tensor operator()(const Tensor& tokens, KeyValueCache* cache = nullptr) const;
  GPT2Config config;
  GPT2Model transformer;
  using Members = nn::Members<&GPT2::transformer>;
};

}  // namespace tenon::models
