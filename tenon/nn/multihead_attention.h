// Multi-head attention with separate queries, keys and values (Vaswani et al., arXiv 1706.03762), as PyTorch has it:
// weights in_proj_weight [3 E, E] (or q_, k_, v_proj_weight where keys or values have another width), in_proj_bias,
// out_proj, and the same meaning of masks: a true element of a bool mask is NOT seen, numbers are added to the scores.
#pragma once

#include "tenon/nn/linear.h"
#include "tenon/nn/mode.h"

namespace tenon::nn {

struct MultiheadAttentionOptions {
  double dropout = 0;  // of the attention weights, while training
  bool bias = true;
  bool add_bias_kv = false;    // one learnt key and value more
  bool add_zero_attn = false;  // one key and value of zeros more
  int64_t kdim = 0, vdim = 0;  // width of keys and values; 0: the embedding's
  bool batch_first = false;    // [N, L, E] instead of [L, N, E]
  DType dtype = DType::F32;
};
struct AttentionMasks {
  Tensor attention = {};    // [Lq, Lk] or [N * heads, Lq, Lk]
  Tensor key_padding = {};  // [N, Lk]
  bool causal = false;      // query i sees keys up to i
};
struct MultiheadAttentionResult {
  Tensor y;        // of the queries' shape
  Tensor weights;  // [N, Lq, Lk], the mean over heads; undefined unless asked for
};

// The projections start as PyTorch's: Xavier uniform, biases 0, bias_k and bias_v Xavier normal.
// Errors: ValueError unless the heads divide the width; ShapeError if the inputs do not fit.
class MultiheadAttention {
 public:
  MultiheadAttention(int64_t width, int64_t heads, const MultiheadAttentionOptions& options = {});
  // [L, N, E] each, or one example [L, E].
  [[nodiscard]] Tensor operator()(const Tensor& query, const Tensor& key, const Tensor& value,
                                  const AttentionMasks& masks = {}) const;
  [[nodiscard]] MultiheadAttentionResult with_weights(const Tensor& query, const Tensor& key, const Tensor& value,
                                                      const AttentionMasks& masks = {}) const;

  int64_t width, heads;
  MultiheadAttentionOptions options;
  Variable in_proj_weight, q_proj_weight, k_proj_weight, v_proj_weight, in_proj_bias, bias_k, bias_v;
  Linear out_proj;
  Mode mode;
  using Members = nn::Members<&MultiheadAttention::in_proj_weight, &MultiheadAttention::q_proj_weight,
                              &MultiheadAttention::k_proj_weight, &MultiheadAttention::v_proj_weight,
                              &MultiheadAttention::in_proj_bias, &MultiheadAttention::bias_k,
                              &MultiheadAttention::bias_v, &MultiheadAttention::out_proj, &MultiheadAttention::mode>;

 private:
  [[nodiscard]] MultiheadAttentionResult run(Tensor query, Tensor key, Tensor value, const AttentionMasks& masks,
                                             bool want_weights) const;
};

}  // namespace tenon::nn
