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

// What the nests of nesting_test.cpp cannot see: derivatives with a known value that is not that of the function.
UnaryFunction mapped(const UnaryFunction& f) {
  return [f](const Tensor& x) { return vmap([&](const Tensors& in) { return Tensors{f(in[0])}; })({x})[0]; };
}
UnaryFunction total(const UnaryFunction& f) {
  return [f](const Tensor& x) { return sum(f(x)); };
}
Tensor cube(const Tensor& x) { return x * x * x; }

TEST(Vmap, DerivativesOfPerExampleDerivatives) {
  const Tensor x = vec({1, 2});
  const auto per_example = mapped(grad(UnaryFunction(cube)));
  EXPECT_THAT(values(grad(total(per_example))(x)), ElementsAre(6, 12));
  EXPECT_THAT(values(grad(total(grad(total(per_example))))(x)), ElementsAre(6, 6));
  EXPECT_THAT(values(jacobian(per_example, x)), ElementsAre(6, 0, 0, 12));
  EXPECT_THAT(values(grad(total(mapped(grad(grad(UnaryFunction(cube))))))(x)), ElementsAre(6, 6));
  Variable w(x);
  sum(per_example(w)).backward();
  EXPECT_THAT(values(w.grad()), ElementsAre(6, 12));
  // Gradient of a parameter through per-example gradients: sum of 2 w x.
  Variable s(from_vector<double>({3}, {}));
  sum(mapped(grad(UnaryFunction([&](const Tensor& y) { return s * y * y; })))(x)).backward();
  EXPECT_EQ(s.grad().item(), 6);
}

TEST(Vmap, InsideGradKeepsDetachHooksAndOwnDerivatives) {
  const Tensor x = vec({1, 2});
  EXPECT_THAT(values(grad(total(mapped([](const Tensor& y) { return y.detach() * y; })))(x)), ElementsAre(1, 2));
  int calls = 0;
  const auto hooked = mapped([&](const Tensor& y) {
    return square(with_gradient_hook(y, [&](const Tensor& g) {
      ++calls;
      EXPECT_EQ(g.ndim(), 0);
      return g * 10;
    }));
  });
  EXPECT_THAT(values(grad(total(hooked))(x)), ElementsAre(20, 40));
  EXPECT_EQ(calls, 1);
  const auto watched =
      mapped([](const Tensor& y) { return square(with_gradient_hook(y, [](const Tensor&) { return Tensor(); })); });
  EXPECT_THAT(values(grad(total(watched))(x)), ElementsAre(2, 4));
  // Two inputs, one of which is the same for all examples; the rule reads a value of its example from outside.
  const auto own = [](const Tensor& y, const Tensor& scale) {
    return custom_vjp(
        "own", [](const Tensors& in) { return Tensors{in[0] * in[1]}; },
        [y](const Tensors& in, const Tensors&, const Tensors& ct) {
          return Tensors{ct[0] * 3 * in[1] + 0 * y, ct[0] * in[0] * y};
        })({y, scale})[0];
  };
  const Tensors g = grad(ScalarFunction([&](const Tensors& in) {
    return sum(mapped([&](const Tensor& y) { return own(y, in[1]); })(in[0]));
  }))({x, from_vector<double>({5}, {})});
  EXPECT_THAT(values(g[0]), ElementsAre(15, 15));
  EXPECT_EQ(g[1].item(), 1 + 4);
  // The same rule per example, differentiated inside as well as around.
  const auto twice = grad(total(mapped(grad(UnaryFunction([&](const Tensor& y) { return own(y, y); })))));
  // d/dy own(y, y) by the rule is 3 y + y * y, whose derivative is 3 + 2 y
  EXPECT_THAT(values(twice(x)), ElementsAre(5, 7));
  // Under a vmap of the pullback, as in jacobian().
  EXPECT_THAT(values(jacobian(mapped([&](const Tensor& y) { return own(y, Tensor(2.0)); }), x)),
              ElementsAre(6, 0, 0, 6));
}

TEST(Vmap, ARuleWithTheWrongNumberOfCotangentsIsNamed) {
  const auto bad = custom_vjp(
      "bad", [](const Tensors& in) { return Tensors{in[0] * 2}; },
      [](const Tensors&, const Tensors&, const Tensors& ct) { return Tensors{ct[0], ct[0]}; });
  EXPECT_THAT(error_text<GradientError>(
                  [&] { (void)grad(total(mapped([&](const Tensor& y) { return bad({y})[0]; })))(vec({1, 2})); }),
              HasSubstr("bad: the gradient function gave the wrong number of cotangents"));
}

TEST(Vmap, AxesThatAreNotThereAreNamed) {
  const trace::Function same = [](const Tensors& in) { return in; };
  EXPECT_THAT(error_text<IndexError>([&] { (void)vmap(same, {.in_axes = {3}})({ones({2})}); }),
              AllOf(HasSubstr("vmap: in_axes[0] names an axis that input 0 does not have"), HasSubstr("got 3")));
  EXPECT_THAT(error_text<IndexError>([&] { (void)vmap(same, {.out_axes = {2}})({ones({2})}); }),
              AllOf(HasSubstr("vmap: out_axes[0]"), HasSubstr("got 2")));
}

TEST(ValueAndGrad, OfVariablesNests) {
  Variable w(vec({1, 2}));
  const auto once = [&] { return value_and_grad([&] { return sum(cube(w)); }, {w}).grads[0]; };
  const auto nested = value_and_grad([&] { return sum(once()); }, {w});
  EXPECT_THAT(values(nested.grads[0]), ElementsAre(6, 12));
  const auto thrice =
      value_and_grad([&] { return sum(value_and_grad([&] { return sum(once()); }, {w}).grads[0]); }, {w});
  EXPECT_THAT(values(thrice.grads[0]), ElementsAre(6, 6));
  EXPECT_FALSE(once().requires_grad());  // nobody asked for more
}

TEST(ValueAndGrad, CreateGraphKeepsWhatThePassUsed) {
  Variable w(vec({1, 2})), b(vec({3, 4}));
  const auto r = value_and_grad([&] { return sum(cube(w) * b); }, {w}, /*create_graph=*/true);
  sum(r.grads[0]).backward();
  EXPECT_THAT(values(w.grad()), ElementsAre(18, 48));
  EXPECT_THAT(values(b.grad()), ElementsAre(3, 12));
  const auto plain = value_and_grad([&] { return sum(cube(w)); }, {w});
  EXPECT_THAT(error_text<GradientError>([&] { sum(plain.grads[0]).backward(); }), HasSubstr("create_graph"));
  // Through a checkpoint that reads the Variable itself.
  const auto f = checkpoint([&](const Tensors& in) { return Tensors{cube(w) * in[0]}; });
  const auto kept = value_and_grad([&] { return sum(f({Tensor(1.0)})[0]); }, {w}, /*create_graph=*/true);
  w.zero_grad();
  sum(kept.grads[0]).backward();
  EXPECT_THAT(values(w.grad()), ElementsAre(6, 12));
}

TEST(Checkpoint, OfAnExampleInsideGrad) {
  const auto f = checkpoint([](const Tensors& in) { return Tensors{cube(in[0])}; });
  const auto g = mapped([&](const Tensor& y) { return f({y})[0]; });
  EXPECT_THAT(values(grad(total(g))(vec({1, 2}))), ElementsAre(3, 12));
  EXPECT_THAT(values(hessian(total(g), vec({1, 2}))), ElementsAre(6, 0, 0, 12));
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
