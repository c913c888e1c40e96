#include "tenon/nn/embedding.h"

#include "tenon/nn/check.h"
#include "tenon/nn/init.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/index.h"
#include "tenon/ops/movement.h"
#include "tenon/trace/layer_scope.h"

namespace tenon::nn {
namespace {

Variable table(const char* layer, int64_t rows, int64_t width, DType dtype, std::optional<int64_t> padding) {
  require_at_least(layer, "rows", rows, 1);
  require_at_least(layer, "width", width, 1);
  Tensor values = init::normal({rows, width}, 0, 1, dtype);
  if (padding) {
    ops::padding_row(layer, padding, values);
    values = set(values, {*padding}, 0);
  }
  return Variable(values);
}

}  // namespace

Embedding::Embedding(int64_t rows, int64_t width, EmbeddingOptions options)
    : sparse(options.sparse),
      padding_index(options.padding_index),
      weight(table("Embedding", rows, width, options.dtype, options.padding_index)) {}

Tensor Embedding::operator()(const Tensor& indices) const {
  const trace::LayerScope scope(weight);
  return embedding(weight, indices, sparse, padding_index);
}

EmbeddingBag::EmbeddingBag(int64_t rows, int64_t width, EmbeddingBagOptions given)
    : options(given), weight(table("EmbeddingBag", rows, width, given.dtype, given.padding_index)) {}

Tensor EmbeddingBag::operator()(const Tensor& indices) const {
  const trace::LayerScope scope(weight);
  // Whatever stands before the last axis counts bags.
  Shape shape = indices.shape();
  const int64_t each = shape.empty() ? 1 : shape.back();
  if (!shape.empty()) shape.pop_back();
  shape.push_back(weight.shape()[1]);
  const int64_t bags = numel(shape) / shape.back();
  return reshape((*this)(reshape(indices, {bags, each}), Tensor()), shape);
}

Tensor EmbeddingBag::operator()(const Tensor& indices, const Tensor& offsets, const Tensor& weights) const {
  const trace::LayerScope scope(weight);
  return embedding_bag(weight, indices, offsets, weights,
                       {.mode = options.mode,
                        .sparse = options.sparse,
                        .padding_index = options.padding_index,
                        .include_last_offset = options.include_last_offset});
}

}  // namespace tenon::nn
