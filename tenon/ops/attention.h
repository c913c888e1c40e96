// Scaled dot-product attention.
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon {

struct AttentionOptions {
  bool causal = false;  // query i sees keys up to i + (keys - queries): the last query sees the last key
  double scale = 0;     // of the scores; 0 means 1 / sqrt(head width)
};
// softmax(scale * q k^T + mask) v (Vaswani et al., arXiv 1706.03762). q is [N, heads, Lq, D]; k and v are
// [N, kv_heads, Lk, D] with kv_heads dividing heads (grouped queries, Ainslie et al., arXiv 2305.13245). The mask
// broadcasts to [N, heads, Lq, Lk]: bool (true: may be seen) or a number added to the scores.
// A query that may see no key gives 0. In f16 and bf16 products are added up in f32, scores and their softmax are f32,
// and the result is rounded once; on CPUs with AMX probabilities are rounded to bf16 for their product with v. Memory
// grows with the lengths, not with their product, but for the gradient of a mask.
Tensor scaled_dot_product_attention(Tensor q, Tensor k, Tensor v, Tensor mask = {}, AttentionOptions options = {});

// Sequences of different lengths packed one after another: q, k, v are [total, heads, D]; sequence i is rows
// offsets[i] to offsets[i + 1] and sees only itself.
Tensor packed_attention(Tensor q, Tensor k, Tensor v, const Ints& offsets, AttentionOptions options = {});

namespace ops {
// Inputs q, k, v (equal heads), mask (optional, real, broadcast to the scores); attributes causal, scale.
// Results: y, and the logarithm of each query's softmax denominator [N, heads, Lq], f32 for f16 and bf16.
const OpDef& attention_op();
// Inputs ct, q, k, v, mask, y, log_denominator. Results: cotangents of q, k, v.
const OpDef& attention_grad_op();
std::vector<const OpDef*> attention_ops();
}  // namespace ops

}  // namespace tenon
