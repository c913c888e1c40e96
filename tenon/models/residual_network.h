// ResNet (He et al., arXiv 1512.03385) of any depth with the names of the published folders:
// "encoder.stages.0.layers.0.layer.0.convolution.weight".
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "tenon/nn/activation.h"
#include "tenon/nn/conv.h"
#include "tenon/nn/linear.h"
#include "tenon/nn/norm.h"

namespace tenon::models {

struct ResidualConfig {
  int64_t num_channels = 3;
  int64_t embedding_size = 64;
  std::vector<int64_t> hidden_sizes{256, 512, 1024, 2048};
  std::vector<int64_t> depths{3, 4, 6, 3};
  bool bottleneck = true;                  // 1 x 1, 3 x 3, 1 x 1; false: two 3 x 3
  bool downsample_in_first_stage = false;  // its first layer halves the image
  bool downsample_in_bottleneck = false;   // by the first convolution of a layer instead of the second
};

// A convolution without a bias and its normalisation.
class ResidualConvolution {
 public:
  ResidualConvolution(int64_t in, int64_t out, int64_t kernel, int64_t stride);
  [[nodiscard]] Tensor operator()(const Tensor& x) const { return normalization(convolution(x)); }
  nn::Conv2d convolution;
  nn::BatchNorm2d normalization;
  using Members = nn::Members<&ResidualConvolution::convolution, &ResidualConvolution::normalization>;
};

// relu(layer(x) + shortcut(x)); relu between the convolutions.
class ResidualLayer {
 public:
  ResidualLayer(int64_t in, int64_t out, int64_t stride, const ResidualConfig& config);
  [[nodiscard]] Tensor operator()(const Tensor& x) const;
  std::optional<ResidualConvolution> shortcut;  // where the shape changes
  std::vector<ResidualConvolution> layer;
  using Members = nn::Members<&ResidualLayer::shortcut, &ResidualLayer::layer>;
};

struct ResidualStage {
  std::vector<ResidualLayer> layers;
};
struct ResidualEncoder {
  std::vector<ResidualStage> stages;
};
struct ResidualEmbedder {
  ResidualConvolution embedder;  // 7 x 7, stride 2
};

// [N, channels, H, W] -> the last stage's features [N, C, H', W'].
class ResidualNetwork {
 public:
  explicit ResidualNetwork(const ResidualConfig& config);
  [[nodiscard]] Tensor operator()(const Tensor& images) const;
  ResidualConfig config;
  ResidualEmbedder embedder;
  ResidualEncoder encoder;
  using Members = nn::Members<&ResidualNetwork::embedder, &ResidualNetwork::encoder>;
};

// Logits [N, labels].
struct ResNetForImageClassification {
  ResidualNetwork resnet;
  std::tuple<nn::Flatten, nn::Linear> classifier;
  std::vector<std::string> labels;
  [[nodiscard]] Tensor operator()(const Tensor& images) const;
};

// As the functions of pretrained.h. What is loaded evaluates: its normalisations use their running statistics.
[[nodiscard]] ResidualNetwork load_resnet(const std::filesystem::path& folder);
[[nodiscard]] ResNetForImageClassification load_resnet_for_image_classification(const std::filesystem::path& folder);
void save_pretrained(const ResidualNetwork& model, const std::filesystem::path& folder);
void save_pretrained(const ResNetForImageClassification& model, const std::filesystem::path& folder);

}  // namespace tenon::models
