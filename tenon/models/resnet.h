// ResNet-18 (He, Zhang, Ren and Sun, "Deep residual learning for image recognition", arXiv 1512.03385), with
// torchvision's names.
#pragma once

#include <optional>
#include <vector>

#include "tenon/nn/conv.h"
#include "tenon/nn/linear.h"
#include "tenon/nn/norm.h"

namespace tenon::models {

struct ResNetConfig {
  int64_t channels = 3;
  int64_t classes = 1000;
  bool small_images = false;  // a 3 x 3 first convolution without pooling, as is usual for 32 x 32 images
};

// Two 3 x 3 convolutions beside a path that is the identity, or a 1 x 1 convolution where the shape changes.
class BasicBlock {
 public:
  BasicBlock(int64_t in_channels, int64_t out_channels, int64_t stride);
  [[nodiscard]] Tensor operator()(const Tensor& x) const;

  struct Downsample {
    nn::Conv2d conv;
    nn::BatchNorm2d norm;
  };
  nn::Conv2d conv1;
  nn::BatchNorm2d bn1;
  nn::Conv2d conv2;
  nn::BatchNorm2d bn2;
  std::optional<Downsample> downsample;
  using Members =
      nn::Members<&BasicBlock::conv1, &BasicBlock::bn1, &BasicBlock::conv2, &BasicBlock::bn2, &BasicBlock::downsample>;
};

// [N, channels, H, W] -> logits [N, classes].
class ResNet18 {
 public:
  explicit ResNet18(ResNetConfig config = {});
  [[nodiscard]] Tensor operator()(const Tensor& x) const;

  bool small_images;
  nn::Conv2d conv1;
  nn::BatchNorm2d bn1;
  std::vector<BasicBlock> layer1, layer2, layer3, layer4;
  nn::Linear fc;
  using Members = nn::Members<&ResNet18::conv1, &ResNet18::bn1, &ResNet18::layer1, &ResNet18::layer2, &ResNet18::layer3,
                              &ResNet18::layer4, &ResNet18::fc>;
};

}  // namespace tenon::models
