#include "tenon/models/resnet50.h"

#include "tenon/nn/init.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/pooling.h"

namespace tenon::models {
namespace {

constexpr int64_t kExpansion = 4;

nn::Conv2d conv(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t padding) {
  nn::Conv2d layer(in, out, kernel, {.stride = stride, .padding = padding, .bias = false});
  layer.weight.set(
      nn::init::kaiming_normal(layer.weight.shape(), {.mode = nn::init::FanMode::Out, .nonlinearity = "relu"}));
  return layer;
}

std::vector<Bottleneck> stage(int64_t in, int64_t width, int64_t stride, int depth) {
  std::vector<Bottleneck> blocks;
  blocks.reserve(static_cast<size_t>(depth));
  blocks.emplace_back(in, width, stride);
  for (int i = 1; i < depth; ++i) blocks.emplace_back(kExpansion * width, width, 1);
  return blocks;
}

}  // namespace

Bottleneck::Bottleneck(int64_t in_channels, int64_t width, int64_t stride)
    : conv1(conv(in_channels, width, 1, 1, 0)),
      bn1(width),
      conv2(conv(width, width, 3, stride, 1)),
      bn2(width),
      conv3(conv(width, kExpansion * width, 1, 1, 0)),
      bn3(kExpansion * width) {
  if (stride != 1 || in_channels != kExpansion * width)
    downsample.emplace(conv(in_channels, kExpansion * width, 1, stride, 0), nn::BatchNorm2d(kExpansion * width));
}

Tensor Bottleneck::operator()(const Tensor& x) const {
  Tensor y = relu(bn1(conv1(x)));
  y = relu(bn2(conv2(y)));
  y = bn3(conv3(y));
  return relu(std::move(y) + (downsample ? std::get<1>(*downsample)(std::get<0>(*downsample)(x)) : x));
}

ResNet50::ResNet50(int64_t classes)
    : conv1(conv(3, 64, 7, 2, 3)),
      bn1(64),
      layer1(stage(64, 64, 1, 3)),
      layer2(stage(256, 128, 2, 4)),
      layer3(stage(512, 256, 2, 6)),
      layer4(stage(1024, 512, 2, 3)),
      fc(2048, classes) {}

Tensor ResNet50::operator()(const Tensor& x) const {
  Tensor h = max_pool2d(relu(bn1(conv1(x))), {3}, {.stride = {2}, .padding = {1}});
  for (const auto* blocks : {&layer1, &layer2, &layer3, &layer4}) {
    for (const auto& block : *blocks) h = block(h);
  }
  return fc(flatten(global_avg_pool(std::move(h)), 1));
}

}  // namespace tenon::models
