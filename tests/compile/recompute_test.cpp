// Values that are computed again instead of being kept: the peak is lower, the bits are those of eager runs.
#include <gtest/gtest.h>

#include "tenon/compile.h"
#include "tenon/tenon.h"
#include "tests/support/same_bits.h"

namespace tenon {
namespace {

using testing_support::same_bits;

enum class Way { Eager, Kept, Recomputed };

struct Trained {
  Tensors results;  // losses, parameters, gradients
  Explanation explanation;
};

// A few steps with momentum, in one of three ways, from the same weights.
template <class Make, class Loss>
Trained train(const Make& make, const Loss& loss_of, Way way, const std::vector<int64_t>& sizes) {
  manual_seed(11);
  auto model = make();
  optim::SGD optimizer(parameters(model), {.lr = 0.05, .momentum = 0.9});
  const auto step = [&](int64_t n) {
    optimizer.zero_grad();
    const Tensor loss = loss_of(model, n);
    loss.backward();
    optimizer.step();
    return loss;
  };
  CompileOptions options{.verify = true, .disk = {.on = false}};
  if (way == Way::Kept) options.recompute_from = -1;
  auto fast = compile(step, options);
  Trained t;
  for (int64_t n : sizes) t.results.push_back(way == Way::Eager ? step(n) : fast(n));
  for (const auto& p : parameters(model)) {
    t.results.push_back(p.value());
    t.results.push_back(p.grad());
  }
  t.explanation = fast.explain();
  return t;
}

// The bytes by which the peak of the last program is lower; bits are checked.
template <class Make, class Loss>
int64_t saved(const Make& make, const Loss& loss_of, const std::vector<int64_t>& sizes = {0, 0, 0}) {
  const Trained eager = train(make, loss_of, Way::Eager, sizes), kept = train(make, loss_of, Way::Kept, sizes),
                now = train(make, loss_of, Way::Recomputed, sizes);
  for (const Trained* t : {&kept, &now}) {
    EXPECT_EQ(t->results.size(), eager.results.size());
    for (size_t i = 0; i < eager.results.size(); ++i)
      EXPECT_TRUE(same_bits(t->results[i], eager.results[i])) << (t == &kept ? "kept " : "recomputed ") << i;
  }
  const auto &before = kept.explanation.programs.back(), &after = now.explanation.programs.back();
  EXPECT_EQ(before.recomputed, 0);
  EXPECT_EQ(after.donated, before.donated) << "results still take the memory of parameters";
  EXPECT_EQ(before.peak_bytes - after.peak_bytes, before.arena_bytes - after.arena_bytes);
  EXPECT_EQ(before.arena_bytes - after.arena_bytes, after.recompute_saved_bytes) << to_string(now.explanation);
  EXPECT_EQ(after.recomputed > 0, before.peak_bytes > after.peak_bytes) << to_string(now.explanation);
  return before.peak_bytes - after.peak_bytes;
}

struct Layers {
  std::vector<nn::Linear> layers;
  Tensor (*activation)(Tensor) = nullptr;
  using Members = nn::Members<&Layers::layers>;

  Layers(Tensor (*f)(Tensor), int64_t width, int count) : activation(f) {
    for (int i = 0; i < count; ++i) layers.emplace_back(width, width);
  }
  Tensor operator()(Tensor x) const {
    for (const auto& layer : layers) x = activation(layer(std::move(x)));
    return x;
  }
};
constexpr int64_t kBatch = 192, kWidth = 128, kBytes = kBatch * kWidth * 4;
constexpr int kLayers = 6;

template <class F>
int64_t saved_by_layers(F activation, std::vector<int64_t> sizes = {kBatch, kBatch, kBatch}) {
  const Tensor x = uniform({kBatch, kWidth}, -1, 1);
  return saved([&] { return Layers(activation, kWidth, kLayers); },
               [&](const Layers& m, int64_t n) { return mean(square(m(narrow(x, 0, 0, n)))); }, sizes);
}

Tensor gelu_of(Tensor x) { return gelu(std::move(x)); }
Tensor silu_of(Tensor x) { return silu(std::move(x)); }
Tensor tanh_of(Tensor x) { return tanh(std::move(x)); }

// Of each layer both what the activation reads and what it gives would be kept: the first for the activation's own
// gradient, the second for that of the next weight.
TEST(Recompute, ActivationsAreMadeAgainFromWhatTheirGradientKeeps) {
  EXPECT_GE(saved_by_layers(gelu_of), (kLayers - 2) * kBytes);
  EXPECT_GE(saved_by_layers(silu_of), (kLayers - 2) * kBytes);
}
// The gradient of tanh is made of its result; the factor 1 - y^2, which fusion makes in the forward pass, need not
// wait.
TEST(Recompute, TheFactorOfAGradientIsMadeWhereItIsNeeded) {
  EXPECT_GE(saved_by_layers(tanh_of), (kLayers - 2) * kBytes);
}
TEST(Recompute, SmallValuesStay) {
  const Tensor x = uniform({16, 32}, -1, 1);
  EXPECT_EQ(
      saved([&] { return Layers(gelu_of, 32, kLayers); }, [&](const Layers& m, int64_t) { return mean(square(m(x))); }),
      0);
}
TEST(Recompute, WithoutAGradientThereIsNothingToKeep) {
  const Layers model(gelu_of, kWidth, kLayers);
  const Tensor x = uniform({kBatch, kWidth}, -1, 1);
  const NoGrad none;
  auto fast = compile([&] { return model(x); }, {.verify = true});
  EXPECT_TRUE(same_bits(fast(), model(x)));
  EXPECT_EQ(fast.explain().programs.back().recomputed, 0);
}

TEST(Recompute, ABlockOfATransformer) {
  models::GPTConfig config;
  config.vocabulary = 64;
  config.context = 64;
  config.layers = 3;
  config.heads = 2;
  config.width = 64;
  const Tensor tokens = remainder(reshape(arange(8 * 64) * 7, {8, 64}), 64), y = remainder(arange(8 * 64) * 5, 64);
  const auto make = [&] { return models::GPT(config); };
  const auto loss = [&](const models::GPT& m, int64_t) { return cross_entropy(reshape(m(tokens), {8 * 64, 64}), y); };
  // Of each layer what the activation gives, four times as wide as the rest, both normalised values and a turned copy.
  constexpr int64_t kRow = int64_t{8} * 64 * 64 * 4;
  EXPECT_GE(saved(make, loss), 3 * 5 * kRow);
  // In bf16 also the weights made short.
  EXPECT_GT(saved(make,
                  [&](const models::GPT& m, int64_t n) {
                    const Autocast scope(bf16);
                    return loss(m, n);
                  }),
            0);
}
TEST(Recompute, ABlockOfAResidualNetwork) {
  const Tensor x = uniform({8, 16, 32, 32}, -1, 1);
  struct Blocks {
    std::vector<models::BasicBlock> blocks;
    Tensor operator()(Tensor x) {
      for (auto& block : blocks) x = block(std::move(x));
      return x;
    }
  };
  const auto make = [] {
    Blocks blocks;
    for (int i = 0; i < 3; ++i) blocks.blocks.emplace_back(16, 16, 1);
    return blocks;
  };
  // Of each block the first relu's result, made again of the normalised convolution, and masks.
  constexpr int64_t kMask = int64_t{8} * 16 * 32 * 32;
  EXPECT_GE(saved(make, [&](Blocks& m, int64_t) { return mean(square(m(x))); }), 3 * 4 * kMask);
}

TEST(Recompute, OtherSizesDoAsTheFirstOfThemWithoutAnotherCompilation) {
  const std::vector<int64_t> sizes{192, 160, 150, 144, 191, 130};
  EXPECT_GT(saved_by_layers(gelu_of, sizes), (kLayers - 2) * kBytes / 2);
  const Tensor x = uniform({kBatch, kWidth}, -1, 1);
  const Trained t =
      train([&] { return Layers(gelu_of, kWidth, kLayers); },
            [&](const Layers& m, int64_t n) { return mean(square(m(narrow(x, 0, 0, n)))); }, Way::Recomputed, sizes);
  EXPECT_LE(t.explanation.compilations, 2) << to_string(t.explanation);
  for (const auto& program : t.explanation.programs) EXPECT_GT(program.recomputed, 0) << to_string(t.explanation);
}

// By hand: a value is read by a product and again behind a large value. Reports without and with recomputing.
constexpr int64_t kMatrix = int64_t{256} * 256 * 4;
template <class Make, class Read>
std::pair<compiler::ProgramReport, compiler::ProgramReport> read_late(const Make& make, const Read& read) {
  const Tensor x = uniform({256, 256}, -1, 1);
  const auto f = [&] {
    const Tensor a = make(x), first = matmul(a, x);
    const Tensor wide = matmul(reshape(first, {256 * 64, 4}), reshape(narrow(first, 0, 0, 4), {4, 256}));
    return Tensors{read(a, sum(wide))};
  };
  const Tensor want = f()[0];
  auto kept = compile(f, {.verify = true, .recompute_from = -1}), fast = compile(f, {.verify = true});
  EXPECT_TRUE(same_bits(kept()[0], want));
  EXPECT_TRUE(same_bits(fast()[0], want));
  return {kept.explain().programs[0], fast.explain().programs[0]};
}
Tensor scaled(const Tensor& a, const Tensor& factor) { return a * factor; }

TEST(Recompute, ACopyIsMadeInTheKernelThatReadsIt) {
  const auto [kept, now] = read_late([](const Tensor& x) { return exp(x); }, scaled);
  EXPECT_EQ(now.recomputed, 1);
  EXPECT_EQ(now.kernels, kept.kernels);
  EXPECT_EQ(now.peak_bytes, kept.peak_bytes - kMatrix);
}
TEST(Recompute, WhoReadsMemoryGetsAKernelOfCopiesBeforeIt) {
  const auto [kept, now] = read_late([](const Tensor& x) { return exp(x); },
                                     [](const Tensor& a, const Tensor& factor) { return matmul(a, a * factor); });
  EXPECT_EQ(now.recomputed, 1);
  EXPECT_EQ(now.kernels, kept.kernels + 1);
  EXPECT_EQ(now.peak_bytes, kept.peak_bytes - kMatrix);
}
TEST(Recompute, WhatIsDearStays) {
  const auto [kept, now] = read_late([](const Tensor& x) { return sin(exp(sin(x))); }, scaled);
  EXPECT_EQ(now.recomputed, 0);
  EXPECT_EQ(now.peak_bytes, kept.peak_bytes);
}
TEST(Recompute, WhatWouldHaveToBeKeptInsteadStays) {
  const auto [kept, now] = read_late([](const Tensor& x) { return exp(matmul(x, x)); }, scaled);
  EXPECT_EQ(now.recomputed, 0);
  EXPECT_EQ(now.peak_bytes, kept.peak_bytes);
}
TEST(Recompute, SumsAreNotMadeAgain) {
  const auto [kept, now] = read_late([](const Tensor& x) { return softmax(x); }, scaled);
  EXPECT_EQ(now.recomputed, 0);
  EXPECT_EQ(now.peak_bytes, kept.peak_bytes);
}

}  // namespace
}  // namespace tenon
