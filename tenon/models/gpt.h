// GPT: a decoder-only transformer in GPT-2's form (Radford et al., "Language models are unsupervised multitask
// learners", 2019), laid out as nanoGPT does. Linear layers start with a standard deviation of 0.02 * sqrt(768 /
// width): GPT-2's own at its width of 768, and the same size of activations at every other (at a width of 128 the loss
// after 500 steps is 2.12 instead of 2.23); embeddings start with 0.02.
#pragma once

#include <vector>

#include "tenon/nn/attention.h"
#include "tenon/nn/embedding.h"
#include "tenon/nn/norm.h"

namespace tenon::models {

struct GPTConfig {
  int64_t vocabulary = 50257;
  int64_t context = 1024;
  int64_t layers = 12;
  int64_t heads = 12;
  int64_t width = 768;
  double dropout = 0;
  bool bias = true;
  bool tie_weights = true;  // the output projection is the token table
};

class GPTBlock {
 public:
  explicit GPTBlock(const GPTConfig& config);
  [[nodiscard]] Tensor operator()(Tensor x) const;

  nn::LayerNorm ln1;
  nn::SelfAttention attn;
  nn::LayerNorm ln2;
  nn::MLP mlp;
  using Members = nn::Members<&GPTBlock::ln1, &GPTBlock::attn, &GPTBlock::ln2, &GPTBlock::mlp>;
};

// Token numbers [N, length] (length up to the context) -> logits [N, length, vocabulary].
// Errors: ShapeError for a longer sequence; IndexError for a token that is not in the vocabulary.
class GPT {
 public:
  explicit GPT(GPTConfig config = {});
  [[nodiscard]] Tensor operator()(const Tensor& tokens) const;

  GPTConfig config;
  nn::Embedding wte, wpe;
  nn::Dropout dropout;
  std::vector<GPTBlock> blocks;
  nn::LayerNorm ln_f;
  nn::Linear lm_head;  // shares wte's weight with tie_weights
  using Members = nn::Members<&GPT::wte, &GPT::wpe, &GPT::dropout, &GPT::blocks, &GPT::ln_f, &GPT::lm_head>;
};

}  // namespace tenon::models
