#include "tenon/nn/transformer.h"

#include "tenon/nn/check.h"
#include "tenon/nn/init.h"
#include "tenon/nn/module.h"
#include "tenon/ops/elementwise.h"

namespace tenon::nn {
namespace {

MultiheadAttentionOptions attention_options(const TransformerOptions& o) {
  return {.dropout = o.dropout, .bias = o.bias, .batch_first = o.batch_first, .dtype = o.dtype};
}
NormOptions norm_options(const TransformerOptions& o) {
  return {.epsilon = o.layer_norm_eps, .bias = o.bias, .dtype = o.dtype};
}

// x + part(norm(x)), or norm(x + part(x)).
template <class Part>
Tensor residual(Tensor x, const LayerNorm& norm, bool norm_first, const Part& part) {
  if (norm_first) return x + part(norm(x));
  return norm(x + part(x));
}

template <class Layer>
Tensor feed_forward(const Layer& layer, const Tensor& x) {
  const Tensor hidden = layer.linear1(x);
  const bool use_gelu = layer.options.activation == TransformerOptions::Activation::Gelu;
  return layer.linear2(layer.dropout(use_gelu ? gelu(hidden) : relu(hidden)));
}

}  // namespace

TransformerEncoderLayer::TransformerEncoderLayer(int64_t width, int64_t heads, const TransformerOptions& given)
    : options(given),
      self_attn(width, heads, attention_options(given)),
      linear1(width, given.dim_feedforward, {.bias = given.bias, .dtype = given.dtype}),
      linear2(given.dim_feedforward, width, {.bias = given.bias, .dtype = given.dtype}),
      norm1(width, norm_options(given)),
      norm2(width, norm_options(given)),
      dropout(given.dropout),
      dropout1(given.dropout),
      dropout2(given.dropout) {}

Tensor TransformerEncoderLayer::operator()(Tensor x, const AttentionMasks& masks) const {
  x = residual(std::move(x), norm1, options.norm_first,
               [&](const Tensor& in) { return dropout1(self_attn(in, in, in, masks)); });
  return residual(std::move(x), norm2, options.norm_first,
                  [&](const Tensor& in) { return dropout2(feed_forward(*this, in)); });
}

TransformerDecoderLayer::TransformerDecoderLayer(int64_t width, int64_t heads, const TransformerOptions& given)
    : options(given),
      self_attn(width, heads, attention_options(given)),
      multihead_attn(width, heads, attention_options(given)),
      linear1(width, given.dim_feedforward, {.bias = given.bias, .dtype = given.dtype}),
      linear2(given.dim_feedforward, width, {.bias = given.bias, .dtype = given.dtype}),
      norm1(width, norm_options(given)),
      norm2(width, norm_options(given)),
      norm3(width, norm_options(given)),
      dropout(given.dropout),
      dropout1(given.dropout),
      dropout2(given.dropout),
      dropout3(given.dropout) {}

Tensor TransformerDecoderLayer::operator()(Tensor x, const Tensor& memory, const AttentionMasks& masks,
                                           const AttentionMasks& memory_masks) const {
  x = residual(std::move(x), norm1, options.norm_first,
               [&](const Tensor& in) { return dropout1(self_attn(in, in, in, masks)); });
  x = residual(std::move(x), norm2, options.norm_first,
               [&](const Tensor& in) { return dropout2(multihead_attn(in, memory, memory, memory_masks)); });
  return residual(std::move(x), norm3, options.norm_first,
                  [&](const Tensor& in) { return dropout3(feed_forward(*this, in)); });
}

TransformerEncoder::TransformerEncoder(const TransformerEncoderLayer& layer, int64_t count,
                                       std::optional<LayerNorm> last)
    : norm(std::move(last)) {
  require_at_least("TransformerEncoder", "count", count, 0);
  for (int64_t i = 0; i < count; ++i) layers.push_back(nn::clone(layer));
}
Tensor TransformerEncoder::operator()(Tensor x, const AttentionMasks& masks) const {
  for (const auto& layer : layers) x = layer(std::move(x), masks);
  return norm ? (*norm)(x) : x;
}

TransformerDecoder::TransformerDecoder(const TransformerDecoderLayer& layer, int64_t count,
                                       std::optional<LayerNorm> last)
    : norm(std::move(last)) {
  require_at_least("TransformerDecoder", "count", count, 0);
  for (int64_t i = 0; i < count; ++i) layers.push_back(nn::clone(layer));
}
Tensor TransformerDecoder::operator()(Tensor x, const Tensor& memory, const AttentionMasks& masks,
                                      const AttentionMasks& memory_masks) const {
  for (const auto& layer : layers) x = layer(std::move(x), memory, masks, memory_masks);
  return norm ? (*norm)(x) : x;
}

Transformer::Transformer(const TransformerSize& size, const TransformerOptions& options)
    : encoder(TransformerEncoderLayer(size.width, size.heads, options), size.encoder_layers,
              LayerNorm(size.width, norm_options(options))),
      decoder(TransformerDecoderLayer(size.width, size.heads, options), size.decoder_layers,
              LayerNorm(size.width, norm_options(options))) {
  for (Variable& v : parameters(*this)) {
    if (v.shape().size() > 1) v.set(init::xavier_uniform(v.shape(), 1, v.dtype()));
  }
}
Tensor Transformer::operator()(const Tensor& source, const Tensor& target, const AttentionMasks& source_masks,
                               const AttentionMasks& target_masks, const AttentionMasks& memory_masks) const {
  return decoder(target, encoder(source, source_masks), target_masks, memory_masks);
}

}  // namespace tenon::nn
