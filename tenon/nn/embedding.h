// Embedding: a table of rows, looked up by position.
#pragma once

#include "tenon/nn/members.h"
#include "tenon/tensor/variable.h"

namespace tenon::nn {

struct EmbeddingOptions {
  bool sparse = false;  // the table's gradient holds only the rows used, and so does an optimiser's update
  DType dtype = DType::F32;
};

// weight [rows, width], normal with deviation 1 as in PyTorch; indices [...] -> [..., width].
// Errors: IndexError for an index out of range.
class Embedding {
 public:
  Embedding(int64_t rows, int64_t width, EmbeddingOptions options = {});
  [[nodiscard]] Tensor operator()(const Tensor& indices) const;

  bool sparse;
  Variable weight;
  using Members = nn::Members<&Embedding::weight>;
};

enum class BagMode { Sum, Mean, Max };
struct EmbeddingBagOptions {
  BagMode mode = BagMode::Mean;
  bool sparse = false;
  DType dtype = DType::F32;
};
// Rows combined along the last axis of the indices: [..., n] -> [..., width].
class EmbeddingBag {
 public:
  EmbeddingBag(int64_t rows, int64_t width, EmbeddingBagOptions options = {});
  [[nodiscard]] Tensor operator()(const Tensor& indices) const;

  BagMode mode;
  bool sparse;
  Variable weight;
  using Members = nn::Members<&EmbeddingBag::weight>;
};

}  // namespace tenon::nn
