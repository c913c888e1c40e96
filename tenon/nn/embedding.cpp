#include "tenon/nn/embedding.h"

#include "tenon/base/error.h"
#include "tenon/nn/check.h"
#include "tenon/nn/init.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/reduce.h"

namespace tenon::nn {

Embedding::Embedding(int64_t rows, int64_t width, EmbeddingOptions options) : sparse(options.sparse) {
  require_at_least("Embedding", "rows", rows, 1);
  require_at_least("Embedding", "width", width, 1);
  weight = Variable(init::normal({rows, width}, 0, 1, options.dtype));
}

Tensor Embedding::operator()(const Tensor& indices) const { return embedding(weight, indices, sparse); }

EmbeddingBag::EmbeddingBag(int64_t rows, int64_t width, EmbeddingBagOptions options)
    : mode(options.mode), sparse(options.sparse) {
  require_at_least("EmbeddingBag", "rows", rows, 1);
  require_at_least("EmbeddingBag", "width", width, 1);
  weight = Variable(init::normal({rows, width}, 0, 1, options.dtype));
}

Tensor EmbeddingBag::operator()(const Tensor& indices) const {
  const Tensor rows = embedding(weight, indices, sparse);
  switch (mode) {
    case BagMode::Sum:
      return sum(rows, {-2});
    case BagMode::Mean:
      return mean(rows, {-2});
    case BagMode::Max:
      return max(rows, {-2});
  }
  throw InternalError("unknown bag mode");
}

}  // namespace tenon::nn
