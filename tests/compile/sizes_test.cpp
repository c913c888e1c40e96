// A batch size or a sequence length that changes: eager bits, and at most two compilations.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "tenon/compile.h"
#include "tenon/tenon.h"
#include "tests/support/same_bits.h"

namespace tenon {
namespace {

using testing_support::same_bits;

// Each size in this order, eager and compiled; `make` gives the step for two equal models.
void expect_two_compilations(const std::vector<int64_t>& sizes,
                             const std::function<std::function<Tensors(int64_t)>()>& make, int64_t most = 2) {
  manual_seed(3);
  const auto eager = make();
  manual_seed(3);
  const auto step = make();
  auto fast = compile(step, {.verify = true, .disk = {.on = false}});
  for (int64_t n : sizes) {
    const Tensors want = eager(n), got = fast(n);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) ASSERT_TRUE(same_bits(got[i], want[i])) << "size " << n << " result " << i;
  }
  const Explanation e = fast.explain();
  EXPECT_LE(e.compilations, most) << to_string(e);
  EXPECT_EQ(e.dropped, 0);
}

std::vector<int64_t> up_to(int64_t n) {
  std::vector<int64_t> sizes(static_cast<size_t>(n));
  std::iota(sizes.begin(), sizes.end(), 1);
  return sizes;
}
std::vector<int64_t> mixed() { return {24, 7, 64, 2, 63, 33, 10, 48, 64, 3, 16, 5}; }

// Forward, backward and update; with what the parameters are afterwards.
template <class Model, class Loss>
std::function<Tensors(int64_t)> training(Model model, Loss loss_of) {
  auto m = std::make_shared<Model>(std::move(model));
  auto optimizer = std::make_shared<optim::Adam>(parameters(*m), optim::AdamOptions{.lr = 1e-3});
  return [=](int64_t n) {
    optimizer->zero_grad();
    const Tensor loss = loss_of(*m, n);
    loss.backward();
    optimizer->step();
    Tensors results{loss};
    for (const auto& p : parameters(*m)) results.push_back(p.value());
    return results;
  };
}

std::function<Tensors(int64_t)> mlp_training() {
  const Tensor all = uniform({65, 20}, -1, 1), labels = remainder(arange(65) * 7, 10);
  return training(models::MLP({20, 33, 10}), [=](const models::MLP& m, int64_t n) {
    return cross_entropy(m(narrow(all, 0, 0, n)), narrow(labels, 0, 0, n));
  });
}

TEST(Sizes, BatchOfAnMlpFrom1To64) { expect_two_compilations(up_to(64), mlp_training); }
TEST(Sizes, BatchOfAnMlpInAnyOrder) { expect_two_compilations(mixed(), mlp_training); }
// Gradients of a batch of one need no sums, and its axis is no loop: another graph, and other kernels.
TEST(Sizes, ABatchOfOneAmongOthersIsOneMore) { expect_two_compilations({24, 7, 1, 33, 1}, mlp_training, 3); }

TEST(Sizes, BatchOfAConvolutionalNetwork) {
  expect_two_compilations(up_to(16), [] {
    const Tensor all = uniform({17, 1, 28, 28}, 0, 1), labels = remainder(arange(17) * 7, 10);
    return training(models::LeNet(), [=](const models::LeNet& m, int64_t n) {
      return cross_entropy(m(narrow(all, 0, 0, n)), narrow(labels, 0, 0, n));
    });
  });
}

std::function<Tensors(int64_t)> gpt_training(bool batch) {
  models::GPTConfig config;
  config.vocabulary = 30;
  config.context = 64;
  config.layers = 1;
  config.heads = 2;
  config.width = 16;
  return training(models::GPT(config), [=](const models::GPT& m, int64_t n) {
    const Shape shape = batch ? Shape{n, 5} : Shape{3, n};
    const Tensor tokens = remainder(reshape(arange(numel(shape)) * 7, shape), 30);
    return cross_entropy(reshape(m(tokens), {numel(shape), 30}), remainder(arange(numel(shape)) * 11, 30));
  });
}

TEST(Sizes, BatchOfATransformerFrom1To64) {
  expect_two_compilations(up_to(64), [] { return gpt_training(true); });
}
TEST(Sizes, SequenceLengthOfATransformerFrom1To64) {
  expect_two_compilations(up_to(64), [] { return gpt_training(false); });
}

// (More than 4096 elements in one fold are another kernel.)
TEST(Sizes, FoldsOverAnAxisThatChanges) {
  expect_two_compilations(
      {5, 64, 2, 63, 65, 128, 200, 1000, 1365, 100, 3, 129},
      [] {
        return [](int64_t n) {
          const Tensor x = reshape(sin(arange(3 * n) * 0.37), {3, n}), w = cos(arange(n) * 0.1);
          const Tensor h = softmax(x * 2.0) * w;
          return Tensors{h,
                         layer_norm(x, w, w),
                         sum(exp(x), {1}),
                         max(x * w, {1}),
                         sum(transpose(x, 0, 1) * 2.0, {0}),
                         mean(h),
                         prod(cast(x, DType::F64), {1})};
        };
      },
      2);
}

TEST(Sizes, ExplainGivesTheReasons) {
  auto f = compile([](const Tensor& x) { return softmax(x) + x; });
  for (int64_t n : {3, 4, 5}) static_cast<void>(f(uniform({n, 9})));
  const Explanation e = f.explain();
  ASSERT_EQ(e.programs.size(), 3U);
  EXPECT_EQ(e.programs[0].reason, "the first graph");
  EXPECT_EQ(e.programs[1].reason, "a known graph at other sizes, for the first time");
  EXPECT_EQ(e.programs[2].reason, "a known graph at other sizes");
  EXPECT_EQ(e.programs[2].code.compiled, 0);

  // What differs in its sizes only takes one line for all of them.
  for (int64_t n : {6, 7}) static_cast<void>(f(uniform({n, 9})));
  const std::string text = to_string(f.explain());
  EXPECT_THAT(text, testing::HasSubstr("programs 2 to 4\n  program 1 at other sizes: no code was made, ready in"));
  EXPECT_THAT(text, testing::HasSubstr("run 3 times\n"));
  EXPECT_THAT(text, testing::Not(testing::HasSubstr("program 2\n")));

  double slope = 1;
  auto g = compile([&](const Tensor& x) { return leaky_relu(x * 2.0, slope); });
  for (; slope < 4; ++slope) static_cast<void>(g(uniform({3, 9})));
  const Explanation numbers = g.explain();
  ASSERT_EQ(numbers.programs.size(), 3U);
  EXPECT_EQ(numbers.programs[1].reason, "a known graph with other attributes");
  EXPECT_EQ(numbers.programs[2].reason, "a known graph with other attributes");
  EXPECT_EQ(numbers.programs[2].code.compiled, 0) << "the slope is a number of the code by then";
}

// Results of 64 MiB and more go past the caches, smaller ones not: no reason to compile again, in whichever order.
TEST(Sizes, ResultsThatOutgrowTheCachesAreNotCompiledAgain) {
  constexpr int64_t kRow = int64_t{1} << 20;
  for (const std::vector<int64_t>& sizes : {std::vector<int64_t>{2, 9}, std::vector<int64_t>{9, 2}}) {
    const Tensor all = cast(uniform({9, kRow}, -2, 2), f64), b = cast(uniform({kRow}, -1, 1), f64);
    expect_two_compilations(sizes, [&] {
      return [=](int64_t n) {
        const Tensor x = narrow(all, 0, 0, n);
        return Tensors{relu(x + b) * 0.5};
      };
    });
  }
}

}  // namespace
}  // namespace tenon
