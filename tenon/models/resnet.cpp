#include "tenon/models/resnet.h"

#include "tenon/nn/init.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/pooling.h"

namespace tenon::models {
namespace {

nn::Conv2d conv(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t padding) {
  nn::Conv2d layer(in, out, kernel, {.stride = stride, .padding = padding, .bias = false});
  layer.weight.set(
      nn::init::kaiming_normal(layer.weight.shape(), {.mode = nn::init::FanMode::Out, .nonlinearity = "relu"}));
  return layer;
}

std::vector<BasicBlock> stage(int64_t in, int64_t out, int64_t stride) {
  std::vector<BasicBlock> blocks;
  blocks.emplace_back(in, out, stride);
  blocks.emplace_back(out, out, 1);
  return blocks;
}

}  // namespace

BasicBlock::BasicBlock(int64_t in_channels, int64_t out_channels, int64_t stride)
    : conv1(conv(in_channels, out_channels, 3, stride, 1)),
      bn1(out_channels),
      conv2(conv(out_channels, out_channels, 3, 1, 1)),
      bn2(out_channels) {
  if (stride != 1 || in_channels != out_channels)
    downsample = Downsample{conv(in_channels, out_channels, 1, stride, 0), nn::BatchNorm2d(out_channels)};
}

Tensor BasicBlock::operator()(const Tensor& x) const {
  Tensor y = bn2(conv2(relu(bn1(conv1(x)))));
  return relu(std::move(y) + (downsample ? downsample->norm(downsample->conv(x)) : x));
}

ResNet18::ResNet18(ResNetConfig config)
    : small_images(config.small_images),
      conv1(small_images ? conv(config.channels, 64, 3, 1, 1) : conv(config.channels, 64, 7, 2, 3)),
      bn1(64),
      layer1(stage(64, 64, 1)),
      layer2(stage(64, 128, 2)),
      layer3(stage(128, 256, 2)),
      layer4(stage(256, 512, 2)),
      fc(512, config.classes) {}

Tensor ResNet18::operator()(const Tensor& x) const {
  Tensor h = relu(bn1(conv1(x)));
  if (!small_images) h = max_pool2d(std::move(h), {3}, {.stride = {2}, .padding = {1}});
  for (const auto* blocks : {&layer1, &layer2, &layer3, &layer4}) {
    for (const auto& block : *blocks) h = block(h);
  }
  return fc(flatten(global_avg_pool(std::move(h)), 1));
}

}  // namespace tenon::models
