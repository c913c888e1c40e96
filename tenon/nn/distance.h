// Layers that compare two inputs.
#pragma once

#include "tenon/ops/loss.h"

namespace tenon::nn {

struct CosineSimilarity {
  int64_t axis = 1;
  double epsilon = 1e-8;
  Tensor operator()(const Tensor& a, const Tensor& b) const { return cosine_similarity(a, b, axis, epsilon); }
};
struct PairwiseDistance {
  double p = 2, epsilon = 1e-6;
  bool keepdims = false;
  Tensor operator()(const Tensor& a, const Tensor& b) const { return pairwise_distance(a, b, p, epsilon, keepdims); }
};

}  // namespace tenon::nn
