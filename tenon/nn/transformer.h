// The transformer of "Attention is all you need" (arXiv 1706.03762): layers, stacks, and both together. Options, names
// of weights and initial values are PyTorch's. Inputs are [L, N, width], or [N, L, width] with batch_first.
#pragma once

#include <optional>
#include <vector>

#include "tenon/nn/dropout.h"
#include "tenon/nn/multihead_attention.h"
#include "tenon/nn/norm.h"

namespace tenon::nn {

struct TransformerOptions {
  int64_t dim_feedforward = 2048;
  double dropout = 0.1;
  enum class Activation : uint8_t { Relu, Gelu } activation = Activation::Relu;
  double layer_norm_eps = 1e-5;
  bool batch_first = false;
  bool norm_first = false;  // normalise before each part instead of after it
  bool bias = true;
  DType dtype = DType::F32;
};

// Self-attention, then two linear layers; each added to its input and normalised.
class TransformerEncoderLayer {
 public:
  TransformerEncoderLayer(int64_t width, int64_t heads, const TransformerOptions& options = {});
  [[nodiscard]] Tensor operator()(Tensor x, const AttentionMasks& masks = {}) const;

  TransformerOptions options;
  MultiheadAttention self_attn;
  Linear linear1, linear2;
  LayerNorm norm1, norm2;
  Dropout dropout, dropout1, dropout2;
  using Members = nn::Members<&TransformerEncoderLayer::self_attn, &TransformerEncoderLayer::linear1,
                              &TransformerEncoderLayer::dropout, &TransformerEncoderLayer::linear2,
                              &TransformerEncoderLayer::norm1, &TransformerEncoderLayer::norm2,
                              &TransformerEncoderLayer::dropout1, &TransformerEncoderLayer::dropout2>;
};

// The same with attention to the encoder's result (`memory`) between the two parts.
class TransformerDecoderLayer {
 public:
  TransformerDecoderLayer(int64_t width, int64_t heads, const TransformerOptions& options = {});
  [[nodiscard]] Tensor operator()(Tensor x, const Tensor& memory, const AttentionMasks& masks = {},
                                  const AttentionMasks& memory_masks = {}) const;

  TransformerOptions options;
  MultiheadAttention self_attn, multihead_attn;
  Linear linear1, linear2;
  LayerNorm norm1, norm2, norm3;
  Dropout dropout, dropout1, dropout2, dropout3;
  using Members =
      nn::Members<&TransformerDecoderLayer::self_attn, &TransformerDecoderLayer::multihead_attn,
                  &TransformerDecoderLayer::linear1, &TransformerDecoderLayer::dropout,
                  &TransformerDecoderLayer::linear2, &TransformerDecoderLayer::norm1, &TransformerDecoderLayer::norm2,
                  &TransformerDecoderLayer::norm3, &TransformerDecoderLayer::dropout1,
                  &TransformerDecoderLayer::dropout2, &TransformerDecoderLayer::dropout3>;
};

// `count` copies of a layer (with weights of their own that start equal), and a last normalisation if given.
class TransformerEncoder {
 public:
  TransformerEncoder(const TransformerEncoderLayer& layer, int64_t count, std::optional<LayerNorm> norm = {});
  [[nodiscard]] Tensor operator()(Tensor x, const AttentionMasks& masks = {}) const;

  std::vector<TransformerEncoderLayer> layers;
  std::optional<LayerNorm> norm;
  using Members = nn::Members<&TransformerEncoder::layers, &TransformerEncoder::norm>;
};
class TransformerDecoder {
 public:
  TransformerDecoder(const TransformerDecoderLayer& layer, int64_t count, std::optional<LayerNorm> norm = {});
  [[nodiscard]] Tensor operator()(Tensor x, const Tensor& memory, const AttentionMasks& masks = {},
                                  const AttentionMasks& memory_masks = {}) const;

  std::vector<TransformerDecoderLayer> layers;
  std::optional<LayerNorm> norm;
  using Members = nn::Members<&TransformerDecoder::layers, &TransformerDecoder::norm>;
};

struct TransformerSize {
  int64_t width = 512, heads = 8;
  int64_t encoder_layers = 6, decoder_layers = 6;
};
// Encoder and decoder, each with a last normalisation; all matrices start Xavier uniform.
class Transformer {
 public:
  explicit Transformer(const TransformerSize& size = {}, const TransformerOptions& options = {});
  [[nodiscard]] Tensor operator()(const Tensor& source, const Tensor& target, const AttentionMasks& source_masks = {},
                                  const AttentionMasks& target_masks = {},
                                  const AttentionMasks& memory_masks = {}) const;

  TransformerEncoder encoder;
  TransformerDecoder decoder;
  using Members = nn::Members<&Transformer::encoder, &Transformer::decoder>;
};

}  // namespace tenon::nn
