// Control flow: eagerly, captured, differentiated, batched, and mixed.
#include "tenon/trace/control.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tenon/base/error.h"
#include "tenon/exec/evaluate.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/indexing.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"
#include "tenon/trace/state.h"
#include "tenon/trace/transforms.h"
#include "tenon/trace/vmap.h"

using namespace tenon;
using testing::DoubleNear;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pointwise;

namespace {

using Values = std::vector<double>;
Tensor vec(const Values& v) { return from_vector(v, {static_cast<int64_t>(v.size())}); }
Values values(const Tensor& x) { return x.to_vector<double>(); }
Tensor number(double v) { return from_vector<double>({v}, {}); }

// The function as captured graph, run on the inputs.
Tensors captured(const trace::Function& fn, const Tensors& in) {
  std::vector<InputSpec> specs;
  for (const auto& x : in) specs.push_back({"", x.type()});
  return exec::run(capture(fn, specs), in);
}

void expect_near(const Tensor& got, const Tensor& want, double tolerance = 1e-12) {
  ASSERT_EQ(got.shape(), want.shape());
  EXPECT_THAT(values(got), Pointwise(DoubleNear(tolerance), values(want)));
}

// |x| + x^2, by a branch.
Tensors branchy(const Tensors& in) {
  return cond(
      greater(in[0], 0), [](const Tensors& x) { return Tensors{x[0] + square(x[0])}; },
      [](const Tensors& x) { return Tensors{square(x[0]) - x[0]}; }, {in[0]});
}

// Newton's iteration for the square root, until it is near.
Tensors newton(const Tensors& in) {
  const Tensor& a = in[0];
  return while_loop([&](const Tensors& v) { return abs(square(v[0]) - a) > 1e-13; },
                    [&](const Tensors& v) { return Tensors{(v[0] + a / v[0]) * 0.5}; }, {a * 0.5 + 0.5});
}

// A recurrent cell with a weight from outside: h = tanh(w h + x), rows h * x.
ScanStep recurrent(const Tensor& w, const Tensor& h0, const Tensor& xs, bool reverse = false) {
  return scan(
      [&](const Tensors& h, const Tensors& x) {
        const Tensor next = tanh(w * h[0] + x[0]);
        return ScanStep{{next}, {next * x[0]}};
      },
      {h0}, {xs}, {.reverse = reverse});
}
Tensors recurrent_outputs(const Tensors& in) {
  const ScanStep s = recurrent(in[0], in[1], in[2]);
  return {s.carry[0], s.rows[0]};
}
Tensor recurrent_loss(const Tensors& in) {
  const Tensors y = recurrent_outputs(in);
  return sum(y[0]) + sum(square(y[1]));
}
const Tensors kRecurrent{vec({0.5, -0.3}), vec({0.1, 0.2}), from_vector<double>({1, 2, -0.5, 0.3, 0.7, -1}, {3, 2})};

TEST(Cond, TakesTheBranchThatHolds) {
  for (double x : {1.5, -2.0}) {
    EXPECT_DOUBLE_EQ(branchy({number(x)})[0].item(), std::abs(x) + x * x);
    EXPECT_DOUBLE_EQ(captured(branchy, {number(x)})[0].item(), std::abs(x) + x * x);
  }
}

TEST(Cond, UnderVmapEachExampleHasItsOwn) {
  const Tensor xs = vec({1.5, -2.0, 3.0});
  EXPECT_THAT(values(vmap(branchy)({xs})[0]), ElementsAre(3.75, 6.0, 12.0));
  EXPECT_THAT(values(captured(vmap(branchy), {xs})[0]), ElementsAre(3.75, 6.0, 12.0));
}

TEST(Cond, IsDifferentiableInACapture) {
  const auto slope = [](const Tensors& in) { return grad([](const Tensors& x) { return branchy(x)[0]; })(in); };
  const auto curvature = [&](const Tensors& in) { return grad([&](const Tensors& x) { return slope(x)[0]; })(in); };
  for (double x : {1.5, -2.0}) {
    EXPECT_DOUBLE_EQ(slope({number(x)})[0].item(), 2 * x + (x > 0 ? 1 : -1));
    EXPECT_DOUBLE_EQ(captured(slope, {number(x)})[0].item(), 2 * x + (x > 0 ? 1 : -1));
    EXPECT_DOUBLE_EQ(captured(curvature, {number(x)})[0].item(), 2);
  }
  const auto each = [&](const Tensors& in) { return vmap(slope)(in); };
  EXPECT_THAT(values(captured(each, {vec({1.5, -2.0})})[0]), ElementsAre(4, -5));
}

TEST(Cond, BranchesMustAgreeInACapture) {
  const auto bad = [](const Tensors& in) {
    return cond(
        greater(in[0], 0), [](const Tensors& x) { return Tensors{x[0]}; },
        [](const Tensors& x) { return Tensors{cast(x[0], f32)}; }, {in[0]});
  };
  try {
    captured(bad, {number(1)});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("cond"));
    EXPECT_THAT(error.what(), HasSubstr("f32"));
  }
}

TEST(WhileLoop, RunsUntilTheConditionFails) {
  expect_near(newton({number(2)})[0], number(std::sqrt(2.0)));
  expect_near(captured(newton, {number(2)})[0], number(std::sqrt(2.0)));
}

TEST(WhileLoop, ExamplesEndAtDifferentTimes) {
  const Tensor a = vec({2, 9, 1e6, 0.25});
  expect_near(vmap(newton)({a})[0], vec({std::sqrt(2.0), 3, 1000, 0.5}), 1e-9);
  expect_near(captured(vmap(newton), {a})[0], vec({std::sqrt(2.0), 3, 1000, 0.5}), 1e-9);
}

TEST(WhileLoop, IsDifferentiableEagerlyAndSaysWhyNotInACapture) {
  const auto slope = [](const Tensors& in) { return grad([](const Tensors& x) { return newton(x)[0]; })(in); };
  expect_near(slope({number(2)})[0], number(0.5 / std::sqrt(2.0)));
  EXPECT_THROW(captured(slope, {number(2)}), GradientError);
}

TEST(WhileLoop, TheBodyMustKeepTypes) {
  EXPECT_THROW(while_loop([](const Tensors& v) { return sum(v[0]) < 10; },
                          [](const Tensors& v) { return Tensors{concat({v[0], v[0]})}; }, {ones({2})}),
               ShapeError);
  EXPECT_THROW(while_loop([](const Tensors& v) { return v[0] < 10; }, [](const Tensors& v) { return v; }, {ones({2})}),
               ShapeError);
}

TEST(Scan, IsTheLoopItStandsFor) {
  const Tensor &w = kRecurrent[0], &xs = kRecurrent[2];
  for (bool reverse : {false, true}) {
    Tensor h = kRecurrent[1];
    Tensors rows(3);
    for (int64_t k = 0; k < 3; ++k) {
      const int64_t t = reverse ? 2 - k : k;
      h = tanh(w * h + xs[t]);
      rows[static_cast<size_t>(t)] = h * xs[t];
    }
    const auto fn = [&](const Tensors& in) {
      const ScanStep s = recurrent(in[0], in[1], in[2], reverse);
      return Tensors{s.carry[0], s.rows[0]};
    };
    for (const Tensors& got : {fn(kRecurrent), captured(fn, kRecurrent)}) {
      expect_near(got[0], h, 0);
      expect_near(got[1], stack(rows, 0), 0);
    }
  }
}

TEST(Scan, CapturedGradientsEqualEagerOnes) {
  const auto first = [](const Tensors& in) { return grad(recurrent_loss)(in); };
  const Tensors want = first(kRecurrent), got = captured(first, kRecurrent);
  for (size_t i = 0; i < 3; ++i) expect_near(got[i], want[i]);
  const auto second = [&](const Tensors& in) {
    return grad([&](const Tensors& x) {
      Tensor total = number(0);
      for (const auto& g : first(x)) total = total + sum(square(g));
      return total;
    })(in);
  };
  const Tensors want2 = second(kRecurrent), got2 = captured(second, kRecurrent);
  for (size_t i = 0; i < 3; ++i) expect_near(got2[i], want2[i], 1e-11);
}

TEST(Scan, GradientsReachAVariableUsedInside) {
  Variable w(kRecurrent[0]);
  const auto loss = [&](const Tensors& in) {
    const ScanStep s = recurrent(w, in[0], in[1]);
    return Tensors{sum(s.carry[0]) + sum(square(s.rows[0]))};
  };
  const Tensor want = grad(recurrent_loss)(kRecurrent)[0];
  sum(loss({kRecurrent[1], kRecurrent[2]})[0]).backward();
  expect_near(w.grad(), want);
}

TEST(Scan, MixesWithVmapGradAndCapture) {
  const Tensor h0 = from_vector<double>({0.1, 0.2, -0.4, 0.9}, {2, 2});
  const auto per_example = vmap([](const Tensors& in) { return grad(recurrent_loss)(in); },
                                {.in_axes = {kNotBatched, 0, kNotBatched}, .out_axes = {}});
  const Tensors in{kRecurrent[0], h0, kRecurrent[2]};
  Tensors loop(3);
  for (size_t i = 0; i < 3; ++i) {
    Tensors parts;
    for (int64_t b = 0; b < 2; ++b) parts.push_back(grad(recurrent_loss)({in[0], h0[b], in[2]})[i]);
    loop[i] = stack(parts, 0);
  }
  const Tensors eager = per_example(in), graph = captured(per_example, in);
  for (size_t i = 0; i < 3; ++i) {
    expect_near(eager[i], loop[i]);
    expect_near(graph[i], loop[i]);
  }
}

TEST(Scan, NestsInACapture) {
  // Row sums of products by two loops.
  const auto fn = [](const Tensors& in) {
    return scan(
               [&](const Tensors& c, const Tensors& row) {
                 const auto inner =
                     scan([&](const Tensors& s, const Tensors& x) { return ScanStep{{s[0] + x[0] * c[0]}, {}}; },
                          {zeros({}, f64)}, {row[0]});
                 return ScanStep{{c[0] + 1}, {inner.carry[0]}};
               },
               {number(1)}, {in[0]})
        .rows;
  };
  const Tensor x = from_vector<double>({1, 2, 3, 4, 5, 6}, {2, 3});
  EXPECT_THAT(values(fn({x})[0]), ElementsAre(6, 30));
  EXPECT_THAT(values(captured(fn, {x})[0]), ElementsAre(6, 30));
  const auto slope = [&](const Tensors& in) { return grad([&](const Tensors& v) { return sum(fn(v)[0]); })(in); };
  EXPECT_THAT(values(captured(slope, {x})[0]), ElementsAre(1, 1, 1, 2, 2, 2));
}

TEST(Scan, OfNoStepsKeepsTheCarry) {
  const ScanStep s = recurrent(kRecurrent[0], kRecurrent[1], zeros({0, 2}, f64));
  expect_near(s.carry[0], kRecurrent[1], 0);
  EXPECT_EQ(s.rows[0].shape(), (Shape{0, 2}));
}

TEST(Scan, WrongUseIsExplained) {
  const auto body = [](const Tensors& c, const Tensors&) { return ScanStep{c, {}}; };
  EXPECT_THROW(scan(body, {number(1)}, {}), ValueError);
  EXPECT_THROW(scan(body, {number(1)}, {vec({1, 2}), vec({1, 2, 3})}), ShapeError);
  EXPECT_THROW(scan([](const Tensors& c, const Tensors&) { return ScanStep{{cast(c[0], f32)}, {}}; }, {number(1)}, {},
                    {.length = 2}),
               DTypeError);
}

TEST(CustomVjp, IsNotLostInACapturedLoop) {
  const auto doubled = custom_vjp(
      "doubled", [](const Tensors& in) { return Tensors{in[0] * 2}; },
      [](const Tensors&, const Tensors&, const Tensors& ct) { return Tensors{ct[0] * 7}; });
  const auto fn = [&](const Tensors& in) {
    return grad([&](const Tensors& v) {
      return scan([&](const Tensors& c, const Tensors&) { return ScanStep{doubled(c), {}}; }, {v[0]}, {}, {.length = 2})
          .carry[0];
    })(in);
  };
  EXPECT_DOUBLE_EQ(fn({number(1)})[0].item(), 49);
  EXPECT_THROW(captured(fn, {number(1)}), UnsupportedError);
}

// What the body computes from an outer value alone is part of the loop, so that the gradient reaches the value.
TEST(Scan, GradientReachesWhatTheBodyDerivesFromOutside) {
  const auto fn = [](const Tensors& in) {
    return grad([](const Tensors& v) {
      const auto body = [&](const Tensors& c, const Tensors&) { return ScanStep{{c[0] * exp(v[1])}, {}}; };
      return scan(body, {v[0]}, {}, {.length = 3}).carry[0];
    })(in);
  };
  const Tensors in{number(1.5), number(0.2)}, eager = fn(in), in_capture = captured(fn, in);
  EXPECT_NEAR(eager[1].item(), 3 * 1.5 * std::exp(0.6), 1e-12);
  EXPECT_NEAR(in_capture[1].item(), eager[1].item(), 1e-12);
  EXPECT_NEAR(in_capture[0].item(), eager[0].item(), 1e-12);
}

TEST(CustomVjp, SecondDerivativesFlowThroughSavedOutputs) {
  const auto my_exp = custom_vjp(
      "my_exp", [](const Tensors& in) { return Tensors{exp(in[0])}; },
      [](const Tensors&, const Tensors& out, const Tensors& ct) { return Tensors{ct[0] * out[0]}; });
  const auto f = UnaryFunction([&](const Tensor& x) { return my_exp({x})[0]; });
  EXPECT_DOUBLE_EQ(grad(grad(grad(f)))(number(0.7)).item(), std::exp(0.7));
}

TEST(GradientOfBody, WorksForElementwiseOps) {
  for (const auto& f : {UnaryFunction([](const Tensor& x) { return elu(x); }),
                        UnaryFunction([](const Tensor& x) { return mish(x); }), UnaryFunction([](const Tensor& x) {
                          return grad(UnaryFunction([](const Tensor& y) { return gelu(y); }))(x);
                        })}) {
    const double x = 0.8, h = 1e-5;
    const double slope = (f(number(x + h)).item() - f(number(x - h)).item()) / (2 * h);
    EXPECT_NEAR(grad(f)(number(x)).item(), slope, 1e-9);
  }
}

}  // namespace
