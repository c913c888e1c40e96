// MobileNetV2 (Sandler, Howard, Zhu, Zhmoginov and Chen, arXiv 1801.04381) with torchvision's names, so that its state
// dicts load: "features.3.conv.1.0.weight".
#pragma once

#include <tuple>
#include <variant>
#include <vector>

#include "tenon/nn/conv.h"
#include "tenon/nn/dropout.h"
#include "tenon/nn/linear.h"
#include "tenon/nn/norm.h"

namespace tenon::models {

// A convolution and its normalisation; a relu6 follows.
using ConvNorm = std::tuple<nn::Conv2d, nn::BatchNorm2d>;

// To `expansion` times the channels, a 3 x 3 convolution of each by itself, and to `out` channels without an
// activation; the input is added where it has the result's shape.
class InvertedResidual {
 public:
  InvertedResidual(int64_t in, int64_t out, int64_t stride, int64_t expansion);
  [[nodiscard]] Tensor operator()(const Tensor& x) const;

  bool residual;
  std::vector<std::variant<ConvNorm, nn::Conv2d, nn::BatchNorm2d>> conv;
  using Members = nn::Members<&InvertedResidual::conv>;
};

// [N, 3, H, W] -> logits [N, classes].
class MobileNetV2 {
 public:
  explicit MobileNetV2(int64_t classes = 1000);
  [[nodiscard]] Tensor operator()(const Tensor& x) const;

  std::vector<std::variant<ConvNorm, InvertedResidual>> features;
  std::tuple<nn::Dropout, nn::Linear> classifier;
  using Members = nn::Members<&MobileNetV2::features, &MobileNetV2::classifier>;
};

}  // namespace tenon::models
