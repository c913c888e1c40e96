// Attention layers and the two-layer perceptron of a transformer block.
#pragma once

#include "tenon/nn/dropout.h"
#include "tenon/nn/linear.h"

namespace tenon::nn {

struct SelfAttentionOptions {
  bool causal = false;
  bool bias = true;
  double dropout = 0;    // of the result
  int64_t kv_heads = 0;  // grouped queries; 0: as many as heads
};

// [N, length, width] -> the same: queries, keys and values of each position in one projection `qkv` (rows in this
// order), attention by head, and the output projection `out`.
// Errors: ValueError unless heads divide the width (and kv_heads the heads).
class SelfAttention {
 public:
  SelfAttention(int64_t width, int64_t heads, SelfAttentionOptions options = {});
  [[nodiscard]] Tensor operator()(const Tensor& x) const;

  int64_t heads, kv_heads;
  bool causal;
  Linear qkv, out;
  Dropout dropout;
  using Members = nn::Members<&SelfAttention::qkv, &SelfAttention::out, &SelfAttention::dropout>;
};

struct MLPOptions {
  int64_t hidden = 0;  // 0: four times the width
  bool tanh_gelu = false;
  bool bias = true;
  double dropout = 0;
};
// fc2(gelu(fc1(x))): [..., width] -> the same.
class MLP {
 public:
  explicit MLP(int64_t width, MLPOptions options = {});
  [[nodiscard]] Tensor operator()(const Tensor& x) const;

  bool tanh_gelu;
  Linear fc1, fc2;
  Dropout dropout;
  using Members = nn::Members<&MLP::fc1, &MLP::fc2, &MLP::dropout>;
};

}  // namespace tenon::nn
