// Linear: y = x W^T + b over the last axis.
#pragma once

#include "tenon/nn/members.h"
#include "tenon/tensor/variable.h"

namespace tenon::nn {

struct LinearOptions {
  bool bias = true;
  DType dtype = DType::F32;
};

// weight [out, in], bias [out]; [..., in] -> [..., out]. Both start uniform in ±1/sqrt(in), as in PyTorch.
// Errors: ValueError for a feature count below 1; ShapeError if the last axis of x is not `in`.
class Linear {
 public:
  Linear(int64_t in_features, int64_t out_features, LinearOptions options = {});
  [[nodiscard]] Tensor operator()(const Tensor& x) const;

  Variable weight;
  Variable bias;  // undefined without bias
  using Members = nn::Members<&Linear::weight, &Linear::bias>;
};
using Dense = Linear;

// weight [out, in1, in2], bias [out]; y_o = x1^T W_o x2 + b_o: [..., in1], [..., in2] -> [..., out].
class Bilinear {
 public:
  Bilinear(int64_t in1_features, int64_t in2_features, int64_t out_features, LinearOptions options = {});
  [[nodiscard]] Tensor operator()(const Tensor& x1, const Tensor& x2) const;

  Variable weight;
  Variable bias;
  using Members = nn::Members<&Bilinear::weight, &Bilinear::bias>;
};

}  // namespace tenon::nn
