// Vision transformer (Dosovitskiy et al., arXiv 2010.11929) with the published members' names:
// "encoder.layer.0.attention.attention.query.weight".
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tenon/nn/conv.h"
#include "tenon/nn/linear.h"
#include "tenon/nn/norm.h"
#include "tenon/ops/movement.h"

namespace tenon::models {

struct ViTConfig {
  int64_t hidden_size = 768;
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 12;
  int64_t intermediate_size = 3072;
  int64_t image_size = 224;
  int64_t patch_size = 16;
  int64_t num_channels = 3;
  double layer_norm_eps = 1e-12;
  bool qkv_bias = true;
  bool pooler = true;
};

// A layer that the published names put into a struct of its own: "intermediate.dense".
struct ViTDense {
  nn::Linear dense;
};
struct ViTPatches {
  nn::Conv2d projection;
};

class ViTEmbeddings {
 public:
  explicit ViTEmbeddings(const ViTConfig& config);
  [[nodiscard]] Tensor operator()(const Tensor& images) const;
  Variable cls_token, position_embeddings;
  ViTPatches patch_embeddings;
  using Members =
      nn::Members<&ViTEmbeddings::cls_token, &ViTEmbeddings::position_embeddings, &ViTEmbeddings::patch_embeddings>;
};

struct ViTProjections {
  nn::Linear query, key, value;
};
struct ViTAttention {
  ViTProjections attention;
  ViTDense output;
};

class ViTLayer {
 public:
  explicit ViTLayer(const ViTConfig& config);
  [[nodiscard]] Tensor operator()(Tensor x) const;
  int64_t heads;
  ViTAttention attention;
  ViTDense intermediate, output;
  nn::LayerNorm layernorm_before, layernorm_after;
  using Members = nn::Members<&ViTLayer::attention, &ViTLayer::intermediate, &ViTLayer::output,
                              &ViTLayer::layernorm_before, &ViTLayer::layernorm_after>;
};

struct ViTEncoder {
  std::vector<ViTLayer> layer;
};

struct ViTResult {
  Tensor hidden;  // [N, 1 + patches, hidden size]: the class token first
  Tensor pooled;  // [N, hidden size]; undefined without a pooler
};

class ViT {
 public:
  explicit ViT(const ViTConfig& config);
  // Images [N, channels, image size, image size].
  [[nodiscard]] ViTResult operator()(const Tensor& images) const;

  ViTConfig config;
  ViTEmbeddings embeddings;
  ViTEncoder encoder;
  nn::LayerNorm layernorm;
  std::optional<ViTDense> pooler;
  using Members = nn::Members<&ViT::embeddings, &ViT::encoder, &ViT::layernorm, &ViT::pooler>;
};

// As the functions of pretrained.h.
[[nodiscard]] ViT load_vit(const std::filesystem::path& folder);
void save_pretrained(const ViT& model, const std::filesystem::path& folder);

// Logits [N, labels], by the class token.
struct ViTForImageClassification {
  ViT vit;
  nn::Linear classifier;
  std::vector<std::string> labels;
  [[nodiscard]] Tensor operator()(const Tensor& images) const { return classifier(select(vit(images).hidden, 1, 0)); }
};
[[nodiscard]] ViTForImageClassification load_vit_for_image_classification(const std::filesystem::path& folder);
void save_pretrained(const ViTForImageClassification& model, const std::filesystem::path& folder);

}  // namespace tenon::models
