#include "tenon/models/mobilenet_v2.h"

#include "tenon/nn/init.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/pooling.h"

namespace tenon::models {
namespace {

nn::Conv2d convolution(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t groups) {
  nn::Conv2d layer(in, out, kernel, {.stride = stride, .padding = (kernel - 1) / 2, .groups = groups, .bias = false});
  layer.weight.set(nn::init::kaiming_normal(layer.weight.shape(), {.mode = nn::init::FanMode::Out}));
  return layer;
}
ConvNorm conv_norm(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t groups) {
  return {convolution(in, out, kernel, stride, groups), nn::BatchNorm2d(out)};
}
Tensor activated(const ConvNorm& layer, const Tensor& x) { return relu6(std::get<1>(layer)(std::get<0>(layer)(x))); }

nn::Linear head(int64_t in, int64_t classes) {
  nn::Linear layer(in, classes);
  layer.weight.set(nn::init::normal(layer.weight.shape(), 0, 0.01));
  layer.bias.set(nn::init::zeros(layer.bias.shape()));
  return layer;
}

struct Stage {
  int64_t expansion, channels, blocks, stride;
};
constexpr Stage kStages[] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                             {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
constexpr int64_t kFeatures = 1280;

}  // namespace

InvertedResidual::InvertedResidual(int64_t in, int64_t out, int64_t stride, int64_t expansion)
    : residual(stride == 1 && in == out) {
  const int64_t hidden = in * expansion;
  if (expansion != 1) conv.emplace_back(conv_norm(in, hidden, 1, 1, 1));
  conv.emplace_back(conv_norm(hidden, hidden, 3, stride, hidden));
  conv.emplace_back(convolution(hidden, out, 1, 1, 1));
  conv.emplace_back(nn::BatchNorm2d(out));
}

Tensor InvertedResidual::operator()(const Tensor& x) const {
  Tensor h = x;
  for (const auto& layer : conv) {
    if (const auto* both = std::get_if<ConvNorm>(&layer))
      h = activated(*both, h);
    else if (const auto* project = std::get_if<nn::Conv2d>(&layer))
      h = (*project)(h);
    else
      h = std::get<nn::BatchNorm2d>(layer)(h);
  }
  return residual ? x + std::move(h) : h;
}

MobileNetV2::MobileNetV2(int64_t classes) : classifier(nn::Dropout(0.2), head(kFeatures, classes)) {
  int64_t channels = 32;
  features.emplace_back(conv_norm(3, channels, 3, 2, 1));
  for (const Stage& stage : kStages) {
    for (int64_t i = 0; i < stage.blocks; ++i) {
      features.emplace_back(InvertedResidual(channels, stage.channels, i == 0 ? stage.stride : 1, stage.expansion));
      channels = stage.channels;
    }
  }
  features.emplace_back(conv_norm(channels, kFeatures, 1, 1, 1));
}

Tensor MobileNetV2::operator()(const Tensor& x) const {
  Tensor h = x;
  for (const auto& layer : features) {
    const auto* block = std::get_if<InvertedResidual>(&layer);
    h = block != nullptr ? (*block)(h) : activated(std::get<ConvNorm>(layer), h);
  }
  const auto& [dropout, linear] = classifier;
  return linear(dropout(flatten(global_avg_pool(std::move(h)), 1)));
}

}  // namespace tenon::models
