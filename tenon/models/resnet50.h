// ResNet-50 (He, Zhang, Ren and Sun, "Deep residual learning for image recognition", arXiv 1512.03385) with
// torchvision's names, so that its state dicts load: "layer1.0.downsample.1.running_mean". The stride of a block is
// that of its 3 x 3 convolution, as there.
#pragma once

#include <optional>
#include <tuple>
#include <vector>

#include "tenon/nn/conv.h"
#include "tenon/nn/linear.h"
#include "tenon/nn/norm.h"

namespace tenon::models {

// Convolutions 1 x 1, 3 x 3 and 1 x 1 beside a path that is the identity, or a 1 x 1 convolution where the shape
// changes.
class Bottleneck {
 public:
  Bottleneck(int64_t in_channels, int64_t width, int64_t stride);
  [[nodiscard]] Tensor operator()(const Tensor& x) const;

  nn::Conv2d conv1;
  nn::BatchNorm2d bn1;
  nn::Conv2d conv2;
  nn::BatchNorm2d bn2;
  nn::Conv2d conv3;
  nn::BatchNorm2d bn3;
  std::optional<std::tuple<nn::Conv2d, nn::BatchNorm2d>> downsample;
  using Members = nn::Members<&Bottleneck::conv1, &Bottleneck::bn1, &Bottleneck::conv2, &Bottleneck::bn2,
                              &Bottleneck::conv3, &Bottleneck::bn3, &Bottleneck::downsample>;
};

// [N, 3, H, W] -> logits [N, classes].
class ResNet50 {
 public:
  explicit ResNet50(int64_t classes = 1000);
  [[nodiscard]] Tensor operator()(const Tensor& x) const;

  nn::Conv2d conv1;
  nn::BatchNorm2d bn1;
  std::vector<Bottleneck> layer1, layer2, layer3, layer4;
  nn::Linear fc;
  using Members = nn::Members<&ResNet50::conv1, &ResNet50::bn1, &ResNet50::layer1, &ResNet50::layer2, &ResNet50::layer3,
                              &ResNet50::layer4, &ResNet50::fc>;
};

}  // namespace tenon::models
