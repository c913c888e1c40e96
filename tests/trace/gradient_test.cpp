// Gradients and their transformations, nested in each other.
#include <gmock/gmock.h>

#include <cmath>

#include "tenon/base/error.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/indexing.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"
#include "tenon/trace/debug.h"
#include "tenon/trace/sparse.h"
#include "tenon/trace/state.h"
#include "tenon/trace/transforms.h"
#include "tenon/trace/vmap.h"
#include "tests/support/error_text.h"

using namespace tenon;
using testing::AllOf;
using testing::DoubleNear;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pointwise;
using testing_support::error_text;

namespace {

Tensor vec(std::vector<double> v) { return from_vector(v, {static_cast<int64_t>(v.size())}); }
std::vector<double> values(const Tensor& x) { return x.to_vector<double>(); }

TEST(Backward, AccumulatesIntoVariables) {
  Variable w(vec({1, 2, 3}));
  Tensor loss = sum(square(w) * 2);
  loss.backward();
  EXPECT_THAT(values(w.grad()), ElementsAre(4, 8, 12));
  sum(Tensor(w)).backward();
  EXPECT_THAT(values(w.grad()), ElementsAre(5, 9, 13));
  w.zero_grad();
  EXPECT_FALSE(w.grad().defined());
}

TEST(Backward, SecondPassNeedsRetainGraph) {
  Variable w(vec({1, 2}));
  Tensor loss = sum(exp(w));
  loss.backward(true);
  loss.backward();
  EXPECT_THROW(loss.backward(), GradientError);
}

TEST(Backward, BroadcastGradientsSumDown) {
  Variable b(vec({1, 2, 3}));
  Tensor x = ones({4, 3}, f64);
  sum((x + b) * (x + b)).backward();
  EXPECT_THAT(values(b.grad()), ElementsAre(16, 24, 32));
}

TEST(Grad, NestsToHigherOrders) {
  const auto f = [](const Tensor& x) { return x * x * x; };
  const auto d1 = grad(UnaryFunction(f)), d2 = grad(d1), d3 = grad(d2);
  const Tensor x = from_vector<double>({2}, {});
  EXPECT_DOUBLE_EQ(d1(x).item(), 12);
  EXPECT_DOUBLE_EQ(d2(x).item(), 12);
  EXPECT_DOUBLE_EQ(d3(x).item(), 6);
}

TEST(Grad, SeesOuterValuesAsConstants) {
  // d/dx [x * d/dy (x + y)^2 at y = x] : the classic test of perturbation confusion
  const auto f = [](const Tensor& x) {
    const auto inner = grad(UnaryFunction([&](const Tensor& y) { return square(x + y); }));
    return x * inner(x);
  };
  EXPECT_DOUBLE_EQ(grad(UnaryFunction(f))(from_vector<double>({3}, {})).item(), 24);
}

TEST(Jvp, AgreesWithTheDerivative) {
  const auto r = jvp([](const Tensors& in) { return Tensors{sin(in[0]) * in[1]}; }, {vec({0.3, 1}), vec({2, 5})},
                     {vec({1, 0}), vec({0, 1})});
  EXPECT_THAT(values(r.tangents[0]), Pointwise(DoubleNear(1e-12), std::vector<double>{2 * std::cos(0.3), std::sin(1)}));
}

TEST(Jvp, NestsInGradAndGradInJvp) {
  const auto f = [](const Tensor& x) { return sum(sin(x) * x); };
  const Tensor x = vec({0.3, 1.1}), v = vec({1, -2});
  const Tensor forward_over_reverse = hvp(UnaryFunction(f), x, v);
  const Tensor reverse_over_forward = grad(UnaryFunction([&](const Tensor& y) {
    return jvp([&](const Tensors& in) { return Tensors{f(in[0])}; }, {y}, {v}).tangents[0];
  }))(x);
  EXPECT_THAT(values(forward_over_reverse), Pointwise(DoubleNear(1e-12), values(reverse_over_forward)));
  EXPECT_NEAR(values(forward_over_reverse)[0], 2 * std::cos(0.3) - 0.3 * std::sin(0.3), 1e-12);
}

TEST(Vmap, EqualsALoop) {
  const Tensor x = reshape(arange(0.0, 6.0, 1.0, f64), {3, 2});
  const Tensor w = vec({1, 10});
  const auto f = [&](const Tensors& in) { return Tensors{sum(in[0] * w) + max(in[0])}; };
  const Tensor y = vmap(f)({x})[0];
  for (int i = 0; i < 3; ++i) EXPECT_EQ(y[i].item(), f({x[i]})[0].item());
}

TEST(Vmap, PerExampleGradients) {
  const Tensor x = reshape(arange(0.0, 6.0, 1.0, f64), {3, 2});
  const Tensor w = vec({1, 10});
  const auto per_example = vmap([&](const Tensors& in) {
    return grad(ScalarFunction([&](const Tensors& p) { return square(sum(p[0] * in[0])); }))({w});
  })({x})[0];
  for (int i = 0; i < 3; ++i) {
    const Tensor want = grad(UnaryFunction([&](const Tensor& p) { return square(sum(p * x[i])); }))(w);
    EXPECT_EQ(values(per_example[i]), values(want));
  }
}

TEST(Vmap, InsideGrad) {
  const Tensor x = reshape(arange(0.0, 6.0, 1.0, f64), {3, 2});
  const Tensor w = vec({1, 10});
  const Tensor g = grad(UnaryFunction([&](const Tensor& p) {
    return sum(vmap([&](const Tensors& in) { return Tensors{square(sum(p * in[0]))}; })({x})[0]);
  }))(w);
  const Tensor want = grad(UnaryFunction([&](const Tensor& p) { return sum(square(matmul(x, p))); }))(w);
  EXPECT_EQ(values(g), values(want));
}

TEST(Vmap, NestsWithItself) {
  const Tensor a = vec({1, 2, 3}), b = vec({10, 20});
  const Tensor table =
      vmap([&](const Tensors& x) { return vmap([&](const Tensors& y) { return Tensors{x[0] * y[0]}; })({b}); })({a})[0];
  EXPECT_EQ(values(table), (std::vector<double>{10, 20, 20, 40, 30, 60}));
}

TEST(Jacobian, OfAVectorFunction) {
  const Tensor j = jacobian(
      [](const Tensor& x) { return matmul(from_vector<double>({1, 2, 3, 4}, {2, 2}), square(x)); }, vec({1, 3}));
  EXPECT_EQ(j.shape(), (Shape{2, 2}));
  EXPECT_EQ(values(j), (std::vector<double>{2, 12, 6, 24}));
}

TEST(Hessian, OfAQuadratic) {
  const Tensor a = from_vector<double>({2, 1, 1, 3}, {2, 2});
  const Tensor h = hessian([&](const Tensor& x) { return sum(x * matmul(a, x)); }, vec({0.5, -1}));
  EXPECT_EQ(values(h), (std::vector<double>{4, 2, 2, 6}));
}

TEST(Checkpoint, SameGradientsAlsoForVariablesOutside) {
  Variable w(vec({0.5, 1.5}));
  const Tensor x = vec({1, 2});
  const auto f = [&](const Tensors& in) { return Tensors{sum(exp(in[0] * w) * in[0])}; };
  const auto run = [&](const trace::Function& g) {
    w.zero_grad();
    Variable v(x);
    g({v})[0].backward();
    return std::pair(values(w.grad()), values(v.grad()));
  };
  EXPECT_EQ(run(f), run(checkpoint(f)));
}

TEST(CustomVjp, ReplacesTheDerivative) {
  const auto f = custom_vjp(
      "straight through", [](const Tensors& in) { return Tensors{round(in[0])}; },
      [](const Tensors&, const Tensors&, const Tensors& ct) { return ct; });
  Variable v(vec({0.4, 1.7}));
  sum(f({v})[0] * 3).backward();
  EXPECT_THAT(values(v.grad()), ElementsAre(3, 3));
}

TEST(Hook, SeesAndChangesTheGradient) {
  Variable v(vec({1, 2}));
  std::vector<double> seen;
  sum(square(with_gradient_hook(v, [&](const Tensor& g) {
    seen = values(g);
    return g * 10;
  }))).backward();
  EXPECT_THAT(seen, ElementsAre(2, 4));
  EXPECT_THAT(values(v.grad()), ElementsAre(20, 40));
}

TEST(Hook, AGradientOfAnotherShapeNamesWhoGaveIt) {
  Variable v(vec({1, 2, 3}));
  const auto wrong = [](const Tensor&) { return ones({2}); };
  EXPECT_THAT(
      error_text<GradientError>([&] { sum(with_gradient_hook(v, wrong) * 2).backward(); }),
      HasSubstr("gradient hook: the gradient of input 0 has another shape than the input; expected [3], got [2]"));
  const auto cube = custom_vjp(
      "cube", [](const Tensors& in) { return Tensors{in[0] * in[0] * in[0]}; },
      [](const Tensors&, const Tensors&, const Tensors&) { return Tensors{ones({7})}; });
  EXPECT_THAT(error_text<GradientError>([&] { sum(cube({v})[0]).backward(); }),
              HasSubstr("cube: the gradient of input 0 has another shape than the input; expected [3], got [7]"));
}

// This file has no debug information in an ordinary build (debug_test.cpp has): then the way to the line is told.
TEST(AnomalyDetection, WithoutALineSaysHowToGetIt) {
  const AnomalyDetection scope;
  const std::string text = error_text<NumericError>([] { (void)log(vec({-1})); });
  EXPECT_TRUE(text.find("gradient_test.cpp:") != text.npos ||
              text.find("compile it with -g, and its line is named here") != text.npos)
      << text;
}

TEST(Sparse, PrintsItsRowsAndSaysHowToReadIt) {
  Variable table(ones({4, 2}));
  sum(embedding(table, from_vector<int64_t>({1, 3}, {2}), true)).backward();
  EXPECT_EQ(to_string(table.grad()),
            "tensor(rows tensor([1, 3], i64) of f32[4, 2]: tensor([[1., 1.],\n        [1., 1.]], f32))");
  EXPECT_THAT(error_text<ValueError>([&] { (void)table.grad().to_vector(); }),
              AllOf(HasSubstr("to_vector: the tensor is a row-sparse gradient"), HasSubstr("try: to_dense(x)")));
}

TEST(NoGradScope, KeepsNothing) {
  Variable v(vec({1, 2}));
  const NoGrad no_grad;
  EXPECT_FALSE(sum(Tensor(v) * 2).requires_grad());
}

TEST(Detach, StopsTheGradient) {
  Variable v(vec({1, 2}));
  sum(Tensor(v) * Tensor(v).detach()).backward();
  EXPECT_THAT(values(v.grad()), ElementsAre(1, 2));
}

TEST(Sparse, RowsAddUp) {
  const Tensor a = make_sparse_rows(tensor({1, 0, 1}), reshape(arange(0.0, 6.0, 1.0, f64), {3, 2}), {f64, {3, 2}});
  EXPECT_EQ(values(to_dense(a)), (std::vector<double>{2, 3, 4, 6, 0, 0}));
  const Tensor summed = coalesce(a);
  const SparseRows* merged = sparse_rows(summed);
  EXPECT_EQ(merged->indices.to_vector<int64_t>(), (std::vector<int64_t>{0, 1}));
}

TEST(Values, DeepChainsAreFreedWithoutRecursion) {
  Variable v(vec({1}));
  Tensor x = v;
  for (int i = 0; i < 200000; ++i) x = x + 1;
  x = Tensor();
}

TEST(Capture, GivesAGraph) {
  const ir::Graph g = capture([](const Tensors& in) { return Tensors{in[0] * 2 + 1}; }, {{"x", {f32, {3}}}});
  EXPECT_EQ(g.inputs.size(), 1u);
  EXPECT_EQ(g.outputs.size(), 1u);
}

}  // namespace
