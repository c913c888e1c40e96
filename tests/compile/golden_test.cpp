// The loop IR of a few fused graphs as kept text, so that a change of the generated kernels is seen in review.
// To write the texts anew: TENON_WRITE_GOLDENS=1 test_compile --gtest_filter='Golden*', and look at the difference.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "tenon/compile.h"
#include "tenon/models/bert.h"
#include "tenon/models/llama.h"
#include "tenon/models/mobilenet_v2.h"
#include "tenon/models/t5.h"
#include "tenon/models/vit.h"
#include "tenon/nn/recurrent.h"
#include "tenon/nn/resample.h"
#include "tenon/tenon.h"

namespace tenon {
namespace {

void expect_golden(const std::string& name, const std::function<Tensors()>& f) {
  auto fast = compile(f, {.verify = true, .keep_text = true});
  static_cast<void>(fast());
  // Of kernels that differ in their numbers only, the first.
  std::string text;
  std::set<Hash128> seen;
  for (const auto& program : fast.explain().programs) {
    for (const auto& kernel : program.loop_ir) {
      if (seen.insert(hash(compiler::without_numbers(compiler::parse_kernel(kernel)))).second) text += kernel;
    }
  }
  const auto path = std::filesystem::path(TENON_SOURCE_DIR) / "tests/compile/goldens" / (name + ".loop");
  if (std::getenv("TENON_WRITE_GOLDENS") != nullptr) {
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  std::ifstream file(path);
  ASSERT_TRUE(file) << path;
  std::stringstream want;
  want << file.rdbuf();
  EXPECT_EQ(text, want.str()) << path;
}

TEST(Golden, BiasAndGelu) {
  const Tensor x = uniform({8, 96}), b = uniform({96});
  expect_golden("bias_gelu", [&] { return Tensors{gelu(x + b)}; });
}
TEST(Golden, ScaledSoftmax) {
  const Tensor x = uniform({8, 96});
  expect_golden("softmax", [&] { return Tensors{softmax(x * 0.125)}; });
}
TEST(Golden, LayerNormAndResidual) {
  const Tensor x = uniform({8, 96}), r = uniform({8, 96}), w = uniform({96}), b = uniform({96});
  expect_golden("layer_norm", [&] {
    const Tensor y = x + r;
    return Tensors{layer_norm(y, w, b), y};
  });
}
TEST(Golden, BiasGradient) {
  const Tensor ct = uniform({100, 96}), mask = greater(ct, 0.5);
  expect_golden("bias_gradient", [&] { return Tensors{sum(where(mask, ct, 0.0), {0})}; });
}
TEST(Golden, AdamUpdate) {
  Variable p(uniform({100}));
  optim::Adam adam({p}, {});
  p.set_grad(uniform({100}));
  expect_golden("adam", [&] {
    adam.step();
    return Tensors{};
  });
}

// ---- models -----------------------------------------------------------------------------------
// A whole training step.
template <class Model, class Loss>
void expect_golden_step(const std::string& name, Model model, const Loss& loss_of) {
  optim::SGD optimizer(parameters(model), {.lr = 0.1, .momentum = 0.9});
  expect_golden(name, [&] {
    optimizer.zero_grad();
    const Tensor loss = loss_of(model);
    loss.backward();
    optimizer.step();
    return Tensors{loss};
  });
}

TEST(Golden, MlpStep) {
  const Tensor x = uniform({16, 20}), y = remainder(arange(16), 10);
  expect_golden_step("mlp_step", models::MLP({20, 32, 10}), [&](auto& m) { return cross_entropy(m(x), y); });
}
TEST(Golden, LeNetStep) {
  const Tensor x = uniform({4, 1, 28, 28}), y = remainder(arange(4), 10);
  expect_golden_step("lenet_step", models::LeNet(), [&](auto& m) { return cross_entropy(m(x), y); });
}
TEST(Golden, GptStep) {
  models::GPTConfig config;
  config.vocabulary = 30;
  config.context = 16;
  config.layers = 2;
  config.heads = 2;
  config.width = 32;
  const Tensor tokens = remainder(reshape(arange(24) * 7, {2, 12}), 30), y = remainder(arange(24) * 5, 30);
  expect_golden_step("gpt_step", models::GPT(config),
                     [&](auto& m) { return cross_entropy(reshape(m(tokens), {24, 30}), y); });
}
TEST(Golden, ResidualBlockStep) {
  const Tensor x = uniform({2, 8, 6, 6});
  expect_golden_step("residual_block_step", models::BasicBlock(8, 16, 2), [&](auto& m) { return mean(square(m(x))); });
}
TEST(Golden, LlamaForward) {
  models::LlamaConfig config;
  config.vocab_size = 30;
  config.hidden_size = 16;
  config.intermediate_size = 32;
  config.num_hidden_layers = 2;
  config.num_attention_heads = config.num_key_value_heads = 2;
  config.head_dim = config.rotary.head_width = 8;
  const models::Llama model(config);
  const Tensor tokens = remainder(reshape(arange(10) * 7, {2, 5}), 30);
  expect_golden("llama", [&] { return Tensors{model(tokens)}; });
}
TEST(Golden, RmsNormAndSwiGlu) {
  const Tensor x = uniform({8, 96}), w = uniform({96}), gate = uniform({8, 96});
  expect_golden("rms_norm_swiglu", [&] { return Tensors{silu(gate) * rms_norm(x, w)}; });
}
TEST(Golden, CrossEntropyOfLogits) {
  const Tensor x = uniform({8, 50}), b = uniform({50});
  expect_golden("log_softmax_mean", [&] { return Tensors{mean(log_softmax(x + b))}; });
}

struct SmallResNet {
  nn::Conv2d stem{3, 8, 3, {.stride = 1, .padding = 1, .bias = false}};
  nn::BatchNorm2d norm{8};
  std::vector<models::BasicBlock> blocks{models::BasicBlock(8, 8, 1), models::BasicBlock(8, 16, 2)};
  nn::Linear head{16, 10};
  Tensor operator()(const Tensor& x) const {
    Tensor h = relu(norm(stem(x)));
    for (const auto& block : blocks) h = block(h);
    return head(flatten(global_avg_pool(h), 1));
  }
};
TEST(Golden, ResNetStep) {
  const Tensor x = uniform({2, 3, 8, 8}), y = remainder(arange(2), 10);
  expect_golden_step("resnet_step", SmallResNet(), [&](auto& m) { return cross_entropy(m(x), y); });
}
TEST(Golden, InvertedResidualStep) {
  const Tensor x = uniform({2, 8, 6, 6});
  expect_golden_step("inverted_residual_step", models::InvertedResidual(8, 8, 1, 4),
                     [&](auto& m) { return mean(square(m(x))); });
}
TEST(Golden, BertLayerStep) {
  models::BertConfig config;
  config.hidden_size = 32;
  config.num_attention_heads = 2;
  config.intermediate_size = 64;
  const Tensor x = uniform({2, 7, 32});
  expect_golden_step("bert_layer_step", models::BertLayer(config),
                     [&](auto& m) { return mean(square(m(x, Tensor()))); });
}
TEST(Golden, VisionTransformerStep) {
  models::ViTConfig config;
  config.hidden_size = 32;
  config.num_hidden_layers = 1;
  config.num_attention_heads = 2;
  config.intermediate_size = 64;
  config.image_size = 8;
  config.patch_size = 4;
  const Tensor x = uniform({2, 3, 8, 8});
  expect_golden_step("vit_step", models::ViT(config), [&](auto& m) { return mean(square(m(x).pooled)); });
}
TEST(Golden, LstmStep) {
  const Tensor x = uniform({2, 3, 8});
  expect_golden_step("lstm_step", nn::LSTM(8, 12), [&](auto& m) { return mean(square(m(x).y)); });
}
struct SmallUNet {
  nn::Conv2d down{1, 8, 3, {.padding = 1}}, middle{8, 16, 3, {.padding = 1}}, up{24, 8, 3, {.padding = 1}},
      head{8, 1, 1};
  nn::Upsample larger{.scale = {2}};
  Tensor operator()(const Tensor& x) const {
    const Tensor first = relu(down(x));
    const Tensor low = relu(middle(max_pool2d(first, {2, 2})));
    return head(relu(up(concat({larger(low), first}, 1))));
  }
};
TEST(Golden, UNetStep) {
  const Tensor x = uniform({2, 1, 8, 8}), y = uniform({2, 1, 8, 8});
  expect_golden_step("unet_step", SmallUNet(), [&](auto& m) { return mse_loss(m(x), y); });
}
TEST(Golden, T5Step) {
  models::T5Config config;
  config.vocab_size = 30;
  config.d_model = 16;
  config.d_kv = 8;
  config.d_ff = 32;
  config.num_layers = config.num_decoder_layers = 1;
  config.num_heads = 2;
  const Tensor tokens = remainder(reshape(arange(10) * 7, {2, 5}), 30),
               y = remainder(reshape(arange(8) * 5, {2, 4}), 30);
  expect_golden_step("t5_step", models::T5(config), [&](auto& m) {
    return cross_entropy(reshape(m(tokens, m.shifted(y)), {8, 30}), reshape(y, {8}));
  });
}

}  // namespace
}  // namespace tenon
