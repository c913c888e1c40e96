// Embedding: a table of rows, looked up by position. The maths is in ops/gather.h and ops/embedding_bag.h.
#pragma once

#include <optional>

#include "tenon/nn/members.h"
#include "tenon/ops/embedding_bag.h"
#include "tenon/tensor/variable.h"

namespace tenon::nn {

struct EmbeddingOptions {
  bool sparse = false;  // the table's gradient holds only the rows used, and so does an optimiser's update
  DType dtype = DType::F32;
  std::optional<int64_t> padding_index = {};  // a row (negative: from the end) that starts at 0 and is never trained
};

// weight [rows, width], normal with deviation 1 as in PyTorch; indices [...] -> [..., width].
// Errors: IndexError for an index out of range.
class Embedding {
 public:
  Embedding(int64_t rows, int64_t width, EmbeddingOptions options = {});
  [[nodiscard]] Tensor operator()(const Tensor& indices) const;

  bool sparse;
  std::optional<int64_t> padding_index;
  Variable weight;
  using Members = nn::Members<&Embedding::weight>;
};

using BagMode = tenon::BagMode;
struct EmbeddingBagOptions {
  BagMode mode = BagMode::Mean;
  bool sparse = false;
  DType dtype = DType::F32;
  std::optional<int64_t> padding_index = {};  // a row that counts for nothing
  bool include_last_offset = false;           // the offsets' last element is the end of the last bag
};
// Rows combined along the last axis of the indices, [..., n] -> [..., width]; or bags of different lengths one after
// another, indices [total] and offsets [bags], where they start -> [bags, width]. `weights`, of the indices' shape,
// multiply the rows (Sum only). An empty bag gives 0.
// Errors: IndexError for an index out of range; ValueError for offsets that do not start at 0 or fall.
class EmbeddingBag {
 public:
  EmbeddingBag(int64_t rows, int64_t width, EmbeddingBagOptions options = {});
  [[nodiscard]] Tensor operator()(const Tensor& indices) const;
  [[nodiscard]] Tensor operator()(const Tensor& indices, const Tensor& offsets, const Tensor& weights = {}) const;

  EmbeddingBagOptions options;
  Variable weight;
  using Members = nn::Members<&EmbeddingBag::weight>;
};

}  // namespace tenon::nn
