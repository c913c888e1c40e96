// Compiled with -g in every build type: the messages name lines of this file.
#include <gmock/gmock.h>

#include <cmath>

#include "tenon/base/error.h"
#include "tenon/exec/evaluate.h"
#include "tenon/tenon.h"
#include "tests/support/error_text.h"

using namespace tenon;
using testing::HasSubstr;

namespace {

std::string text_of(const std::function<void()>& fn) { return testing_support::error_text<NumericError>(fn); }

std::string here(int line) { return "debug_test.cpp:" + std::to_string(line); }

TEST(AnomalyDetection, NamesTheLineWhereANaNWasBorn) {
  const AnomalyDetection on;
  int line = 0;
  const std::string text = text_of([&] {
    const Tensor x = tensor({1.0, -1.0});
    line = __LINE__ + 1;
    const Tensor y = log(x);
    (void)sum(y);
  });
  EXPECT_THAT(text, HasSubstr("log"));
  EXPECT_THAT(text, HasSubstr("NaN in the result"));
  EXPECT_THAT(text, HasSubstr(here(line)));
}

// sqrt(0) is fine, its derivative infinite; infinity times zero is the NaN. The line is that of the forward call.
TEST(AnomalyDetection, NamesTheForwardLineOfABackwardNaN) {
  const AnomalyDetection on;
  Variable w(tensor({0.0}));
  int line = 0;
  const std::string text = text_of([&] {
    line = __LINE__ + 1;
    const Tensor root = sqrt(w);
    sum(root * 0).backward();
  });
  EXPECT_THAT(text, HasSubstr("sqrt"));
  EXPECT_THAT(text, HasSubstr("NaN in the gradient"));
  EXPECT_THAT(text, HasSubstr(here(line)));
}

TEST(AnomalyDetection, IsOffByDefault) { EXPECT_TRUE(std::isnan(log(Tensor(-1.0)).item())); }

TEST(DebugMode, ReportsTheFirstInfinityMadeOfFiniteNumbers) {
  const DebugMode debug;
  int line = 0;
  const std::string text = text_of([&] {
    const Tensor x = tensor({{1.0f, 2.0f}, {3.0f, 100.0f}});
    line = __LINE__ + 1;
    const Tensor y = exp(x);
    (void)(1.0 / y);  // finite again
  });
  EXPECT_THAT(text, HasSubstr("exp"));
  EXPECT_THAT(text, HasSubstr("infinity in the result"));
  EXPECT_THAT(text, HasSubstr("x f32[2, 2] in [1, 100]"));
  EXPECT_THAT(text, HasSubstr("1 infinite, first at [1, 1]"));
  EXPECT_THAT(text, HasSubstr(here(line)));
}

TEST(DebugMode, WhatTheInputsExplainIsNotReported) {
  const DebugMode debug;
  const Tensor infinite = tensor({1.0f, -INFINITY}), nan = tensor({1.0f, NAN});
  EXPECT_EQ(sum(exp(infinite)).item(), std::exp(1.0f));  // a mask
  EXPECT_TRUE(std::isnan(sum(nan * 2.0).item()));
  EXPECT_EQ(sum(where(isnan(nan), 0, nan)).item(), 1);  // data that is cleaned
  EXPECT_THAT(text_of([&] { (void)(infinite - infinite); }), HasSubstr("NaN in the result"));
}

// Masks of -inf inside attention, and the logarithm of 0 in a loss that bounds it.
TEST(DebugMode, InfinitiesInsideAnOpAreItsOwn) {
  const DebugMode debug;
  const Variable q(ones({1, 1, 3, 2})), p(tensor({0.0f, 1.0f, 0.5f}));
  sum(scaled_dot_product_attention(q, q, q, {}, {.causal = true})).backward();
  (void)binary_cross_entropy(p.value().detach(), tensor({1.0f, 1.0f, 0.0f}));
  EXPECT_TRUE(std::isfinite(sum(logsumexp(q, {-1})).item()));
}

TEST(DebugMode, NamesTheLayer) {
  models::MLP model({.inputs = 2, .hidden = 3, .outputs = 2});
  (void)named_parameters(model);
  model.fc1.weight.set(full({3, 2}, 3e38f));
  const DebugMode debug;
  EXPECT_THAT(text_of([&] { (void)model(full({1, 2}, 1e3f)); }), HasSubstr("matmul (fc1)"));
}

TEST(DebugMode, NamesTheForwardLineOfAnInfiniteGradient) {
  const DebugMode debug;
  Variable w(tensor({0.0f, 4.0f}));
  int line = 0;
  const std::string text = text_of([&] {
    line = __LINE__ + 1;
    const Tensor root = sqrt(w);
    sum(root).backward();
  });
  EXPECT_THAT(text, HasSubstr("sqrt"));
  EXPECT_THAT(text, HasSubstr("infinity in the gradient"));
  EXPECT_THAT(text, HasSubstr("cotangent f32[2] in [1, 1]"));
  EXPECT_THAT(text, HasSubstr(here(line)));
}

TEST(DebugMode, CastsThatLoseWhatTheyAreGiven) {
  const DebugMode debug;
  const auto text = [](const Tensor& x, DType to) { return text_of([&] { (void)cast(x, to); }); };
  EXPECT_THAT(text(tensor({1.0f, 7e4f}), f16), HasSubstr("a value is too large for f16"));
  EXPECT_THAT(text(tensor({1.0f, 7e4f}), f16), HasSubstr("70000 at [1] became inf (1 of 2 values)"));
  EXPECT_THAT(text(tensor({1.0f, 1e-9f}), f16), HasSubstr("a value is too small for f16"));
  EXPECT_THAT(text(full({2}, 1e-60, f64), f32), HasSubstr("a value is too small for f32"));
  EXPECT_THAT(text(tensor({300}), u8), HasSubstr("300 at [0] became 44"));
  EXPECT_THAT(text(tensor({-1.5f}), u8), HasSubstr("a value is too large for u8"));
  EXPECT_THAT(text(tensor({1.0f, NAN}), i32), HasSubstr("a value is too large for i32"));
  EXPECT_EQ(text(tensor({1.0f, 65504.0f, 6e-8f, 0.0f, INFINITY}), f16), "no error");
  EXPECT_EQ(text(tensor({1.7f, -3.2f}), i32), "no error");  // rounding is what a cast is for
  EXPECT_EQ(text(tensor({0.1}), f32), "no error");
  EXPECT_EQ(text(tensor({1e30f}), boolean), "no error");
}

TEST(DebugMode, EachCheckCanBeLeftOut) {
  const DebugMode debug({.infinity = false, .underflow = false});
  EXPECT_TRUE(std::isinf(exp(Tensor(1000.0)).item()));
  EXPECT_EQ(cast(tensor({1e-9f}), f16).to_vector<double>()[0], 0);
  EXPECT_THAT(text_of([] { (void)cast(tensor({1e9f}), f16); }), HasSubstr("too large"));
}

TEST(DebugMode, GraphsAreSearchedToo) {
  const ir::Graph graph = capture([](const Tensors& in) { return Tensors{log(in[0]) * 0.0}; }, {{"x", f32, {2}}});
  const DebugMode debug;
  EXPECT_THAT(text_of([&] { (void)exec::run(graph, {tensor({1.0f, -1.0f})}); }), HasSubstr("log"));
}

TEST(DebugMode, EndsWithItsScope) {
  {
    const DebugMode debug;
  }
  EXPECT_TRUE(std::isnan(log(Tensor(-1.0)).item()));
}

}  // namespace
