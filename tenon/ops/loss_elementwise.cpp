// Losses whose value at an element depends on that element alone: each one scalar program over prediction and target.
//
// To add one: a definition, a line in elementwise_loss_ops(), a function in loss_functions.cpp that reduces.
#include <fmt/format.h>

#include "tenon/base/error.h"
#include "tenon/ops/elementwise_def.h"
#include "tenon/ops/loss.h"
#include "tenon/ops/loss_reduce.h"

namespace tenon::ops {
namespace {

Scalar fn(ScalarOp op, const Scalar& x) { return apply_op(op, std::array{x}); }
Scalar max_of(const Scalar& a, const Scalar& b) { return apply_op(ScalarOp::Max, std::array{a, b}); }
Scalar min_of(const Scalar& a, const Scalar& b) { return apply_op(ScalarOp::Min, std::array{a, b}); }
// log(1 + exp(x)) without overflow.
Scalar softplus_of(const Scalar& x) {
  return max_of(x, 0.0) + fn(ScalarOp::Log1p, fn(ScalarOp::Exp, -fn(ScalarOp::Abs, x)));
}

const std::vector<Arg> kInputTarget{{"input", kFloats}, {"target", kFloats}};

// Positions i / 5 - 1.3 and so on, away from each other and from 0: differences do not meet a kink.
std::vector<double> spread(int64_t n, double start, double step) {
  std::vector<double> values;
  for (int64_t i = 0; i < n; ++i) values.push_back(start + step * static_cast<double>(i * 5 % n));
  return values;
}

ElementwiseSpec loss_spec(std::string_view name, std::string_view doc, Scalar (*expression)(Scalars, const ir::Attrs&),
                          Gradient gradient = GradientOfBody{}) {
  return {.name = name,
          .doc = doc,
          .autocast = AutocastRule::Full,
          .expression = expression,
          .gradient = gradient,
          .dtypes = kFloats,
          .promote = kPromoteToFloat,
          .inputs = kInputTarget,
          .tolerance = {32, 1e-5}};
}

// Shapes that do not broadcast, with the attributes of a right call.
std::vector<InvalidSample> wrong_shapes(size_t inputs, ir::Attrs attrs = {}) {
  std::vector<SampleInput> in(inputs, {{2, 3}});
  in.back() = {{4}};
  return {{in, std::move(attrs), "cannot be broadcast"}};
}

std::vector<Sample> two_sided(const std::vector<ir::Attrs>& attrs) {
  std::vector<Sample> list;
  for (auto& a : attrs) {
    list.push_back({{{{12}, 0, 0, spread(12, -1.93, 0.37)}, {{12}, 0, 0, spread(12, 1.21, -0.19)}}, a});
    list.push_back({{{{2, 3}, 0, 0, spread(6, -1.93, 0.57)}, {{3}, 0, 0, {0.31, -0.4, 0.9}}}, a});
  }
  return list;
}
// Targets 1 and -1, through which no gradient is wanted.
SampleInput signs(const Shape& shape) {
  std::vector<double> values;
  for (int64_t i = 0; i < numel(shape); ++i) values.push_back(i % 3 == 1 ? -1 : 1);
  return {.shape = shape, .values = values, .differentiable = false};
}

const OpDef& mse_loss_op() {
  static const OpDef def = [] {
    auto spec = loss_spec("mse_loss", "The squared difference.", [](Scalars x, const ir::Attrs&) {
      const Scalar d = x[0] - x[1];
      return d * d;
    });
    spec.invalid_samples = [] { return wrong_shapes(2); };
    return binary_def(spec);
  }();
  return def;
}

const OpDef& l1_loss_op() {
  static const OpDef def = [] {
    auto spec = loss_spec("l1_loss", "The magnitude of the difference.",
                          [](Scalars x, const ir::Attrs&) { return fn(ScalarOp::Abs, x[0] - x[1]); });
    spec.samples = [] { return two_sided({{}}); };
    spec.invalid_samples = [] { return wrong_shapes(2); };
    return binary_def(spec);
  }();
  return def;
}

const OpDef& huber_loss_op() {
  static const OpDef def = [] {
    // min(d, delta) * (d - min(d, delta) / 2) is both branches at once.
    auto spec =
        loss_spec("huber_loss", "d^2/2 for a difference d up to delta, delta (d - delta/2) beyond (Huber 1964).",
                  [](Scalars x, const ir::Attrs& a) {
                    const Scalar d = fn(ScalarOp::Abs, x[0] - x[1]), inner = min_of(d, a.real(0));
                    return inner * (d - inner * 0.5);
                  });
    spec.attrs = {{"delta", 1, ir::AttrType::Real, "where the parabola ends"}};
    spec.samples = [] { return two_sided({{1.0}, {0.35}}); };
    spec.invalid_samples = [] { return wrong_shapes(2, {1.0}); };
    return binary_def(spec);
  }();
  return def;
}

const OpDef& bce_op() {
  static const OpDef def = [] {
    auto spec = loss_spec(
        "binary_cross_entropy",
        "-(y log x + (1 - y) log(1 - x)) of a probability x; logarithms count as at least -100, so that it is finite.",
        [](Scalars x, const ir::Attrs&) {
          const Scalar yes = max_of(fn(ScalarOp::Log, x[0]), -100.0), no = max_of(fn(ScalarOp::Log1p, -x[0]), -100.0);
          return -(x[1] * yes + (1.0 - x[1]) * no);
        },
        Vjp{[](const VjpArgs& a) {
              const Tensor &x = a.in[0], &y = a.in[1];
              Tensors g{a.ct[0] * (x - y) / maximum(x * (1 - x), 1e-12), Tensor()};
              if (a.needs[1]) g[1] = a.ct[0] * (maximum(log1p(-x), -100) - maximum(log(x), -100));
              return g;
            },
            3, 0});
    spec.low = 0.1;
    spec.high = 0.9;
    spec.invalid_samples = [] { return wrong_shapes(2); };
    return binary_def(spec);
  }();
  return def;
}

const OpDef& bce_with_logits_op() {
  static const OpDef def = [] {
    auto spec = loss_spec(
        "bce_with_logits",
        "-(p y log sigmoid(x) + (1 - y) log(1 - sigmoid(x))) without overflow; p weighs the positive targets.",
        [](Scalars x, const ir::Attrs&) {
          return (1.0 - x[1]) * x[0] + (1.0 + (x[2] - 1.0) * x[1]) * softplus_of(-x[0]);
        },
        Vjp{[](const VjpArgs& a) {
              const Tensor &x = a.in[0], &y = a.in[1], &p = a.in[2];
              Tensors g{a.ct[0] * ((1 - y) - (1 + (p - 1) * y) * sigmoid(-x)), Tensor(), Tensor()};
              if (a.needs[1]) g[1] = a.ct[0] * ((p - 1) * softplus(-x) - x);
              if (a.needs[2]) g[2] = a.ct[0] * y * softplus(-x);
              return g;
            },
            7, 0});
    spec.inputs = {{"logits", kFloats}, {"target", kFloats}, {"positive_weight", kFloats}};
    spec.invalid_samples = [] { return wrong_shapes(3); };
    return binary_def(spec);
  }();
  return def;
}

const OpDef& kl_div_op() {
  static const OpDef def = [] {
    auto spec =
        loss_spec("kl_div",
                  "target * (log target - input), the input being a log probability; with log_target so is the target. "
                  "0 log 0 is 0.",
                  [](Scalars x, const ir::Attrs& a) {
                    if (a.flag(0)) return fn(ScalarOp::Exp, x[1]) * (x[1] - x[0]);
                    const Scalar positive = x[1] > 0.0;
                    return select(positive, x[1] * (fn(ScalarOp::Log, select(positive, x[1], 1.0)) - x[0]), 0.0);
                  });
    spec.low = 0.1;
    spec.attrs = {{"log_target", 1, ir::AttrType::Flag, "the target is a log probability too"}};
    spec.attr_samples = {{false}, {true}};
    spec.invalid_samples = [] { return wrong_shapes(2, {false}); };
    return binary_def(spec);
  }();
  return def;
}

const OpDef& soft_margin_loss_op() {
  static const OpDef def = [] {
    auto spec = loss_spec("soft_margin_loss", "log(1 + exp(-y x)) for a target y of 1 or -1.",
                          [](Scalars x, const ir::Attrs&) { return softplus_of(-(x[1] * x[0])); });
    spec.invalid_samples = [] { return wrong_shapes(2); };
    return binary_def(spec);
  }();
  return def;
}

const OpDef& hinge_embedding_loss_op() {
  static const OpDef def = [] {
    auto spec = loss_spec(
        "hinge_embedding_loss", "x for target 1, max(0, margin - x) for target -1.",
        [](Scalars x, const ir::Attrs& a) { return select(x[1] > 0.0, x[0], max_of(0.0, a.real(0) - x[0])); });
    spec.attrs = {{"margin", 1, ir::AttrType::Real, "distance beyond which a pair of target -1 costs nothing"}};
    spec.samples = [] {
      return std::vector<Sample>{{{{{12}, 0, 0, spread(12, -1.93, 0.37)}, signs({12})}, {1.0}},
                                 {{{{2, 3}, 0, 0, spread(6, -1.93, 0.57)}, signs({3})}, {0.5}}};
    };
    spec.invalid_samples = [] { return wrong_shapes(2, {1.0}); };
    return binary_def(spec);
  }();
  return def;
}

const OpDef& margin_ranking_loss_op() {
  static const OpDef def = [] {
    auto spec =
        loss_spec("margin_ranking_loss", "max(0, margin - y (x1 - x2)): y is 1 if x1 should be larger, -1 else.",
                  [](Scalars x, const ir::Attrs& a) { return max_of(0.0, a.real(0) - x[2] * (x[0] - x[1])); });
    spec.inputs = {{"x1", kFloats}, {"x2", kFloats}, {"target", kFloats}};
    spec.attrs = {{"margin", 1, ir::AttrType::Real, "by how much the right one must be larger"}};
    spec.samples = [] {
      return std::vector<Sample>{
          {{{{12}, 0, 0, spread(12, -1.93, 0.37)}, {{12}, 0, 0, spread(12, 1.21, -0.19)}, signs({12})}, {0.0}},
          {{{{2, 3}, 0, 0, spread(6, -1.93, 0.57)}, {{3}, 0, 0, {0.31, -0.4, 0.9}}, signs({3})}, {0.3}}};
    };
    spec.invalid_samples = [] { return wrong_shapes(3, {0.0}); };
    return binary_def(spec);
  }();
  return def;
}

const OpDef& poisson_nll_loss_op() {
  static const OpDef def = [] {
    auto spec = loss_spec(
        "poisson_nll_loss",
        "exp(x) - y x, or x - y log(x + epsilon) if x is the rate itself; `full` adds Stirling's approximation of "
        "log y! where y is above 1.",
        [](Scalars x, const ir::Attrs& a) {
          const Scalar loss =
              a.flag(0) ? fn(ScalarOp::Exp, x[0]) - x[1] * x[0] : x[0] - x[1] * fn(ScalarOp::Log, x[0] + a.real(2));
          if (!a.flag(1)) return loss;
          const Scalar large = x[1] > 1.0, y = select(large, x[1], 1.0);
          return loss +
                 select(large, y * fn(ScalarOp::Log, y) - y + fn(ScalarOp::Log, y * 6.283185307179586) * 0.5, 0.0);
        });
    spec.low = 0.2;
    spec.high = 3;
    spec.attrs = {{"log_input", 1, ir::AttrType::Flag, "x is the logarithm of the rate"},
                  {"full", 2, ir::AttrType::Flag, "add the term that does not depend on x"},
                  {"epsilon", 3, ir::AttrType::Real, "keeps log(x) finite"}};
    spec.attr_samples = {{true, false, 1e-8}, {false, false, 1e-3}};
    spec.samples = [] {
      const std::vector<double> x{0.2, 0.7, 1.4, 2.6, 0.9, 1.1}, y{0.0, 2.0, 0.5, 3.0, 1.5, 4.0};
      return std::vector<Sample>{{{{{6}, 0, 0, x}, {{6}, 0, 0, y}}, {true, false, 1e-8}},
                                 {{{{6}, 0, 0, x}, {{6}, 0, 0, y}}, {false, false, 1e-3}},
                                 {{{{2, 3}, 0, 0, x}, {{3}, 0, 0, {0, 2, 5}}}, {false, true, 1e-3}}};
    };
    spec.invalid_samples = [] { return wrong_shapes(2, {true, false, 1e-8}); };
    return binary_def(spec);
  }();
  return def;
}

const OpDef& gaussian_nll_loss_op() {
  static const OpDef def = [] {
    auto spec =
        loss_spec("gaussian_nll_loss",
                  "(log v + (x - y)^2 / v) / 2 for a variance v of at least epsilon; `full` adds log(2 pi) / 2.",
                  [](Scalars x, const ir::Attrs& a) {
                    const Scalar v = max_of(x[2], a.real(1)), d = x[0] - x[1];
                    const Scalar loss = (fn(ScalarOp::Log, v) + d * d / v) * 0.5;
                    return a.flag(0) ? loss + 0.91893853320467274 : loss;
                  });
    spec.inputs = {{"input", kFloats}, {"target", kFloats}, {"variance", kFloats}};
    spec.low = 0.3;
    spec.attrs = {{"full", 1, ir::AttrType::Flag, "add the constant term"},
                  {"epsilon", 2, ir::AttrType::Real, "least variance"}};
    spec.attr_samples = {{false, 1e-6}, {true, 1e-6}};
    spec.invalid_samples = [] { return wrong_shapes(3, {false, 1e-6}); };
    return binary_def(spec);
  }();
  return def;
}

const OpDef& focal_loss_op() {
  static const OpDef def = [] {
    // With q = 1 - p_t = sigmoid(-s x) for s = 2 y - 1 at targets 0 and 1; q is written so for targets between.
    auto spec = loss_spec("focal_loss",
                          "bce_with_logits times (1 - p)^gamma, p being the probability given to the target, weighted "
                          "alpha for positive and 1 - alpha for negative targets (Lin et al., arXiv 1708.02002). A "
                          "negative alpha means no weights.",
                          [](Scalars x, const ir::Attrs& a) {
                            const Scalar p = 1.0 / (1.0 + fn(ScalarOp::Exp, -x[0]));
                            const Scalar ce = (1.0 - x[1]) * x[0] + softplus_of(-x[0]);
                            const Scalar miss = p * (1.0 - x[1]) + (1.0 - p) * x[1];
                            const Scalar loss = ce * apply_op(ScalarOp::Pow, std::array{miss, Scalar(a.real(1))});
                            if (a.real(0) < 0) return loss;
                            return loss * (x[1] * a.real(0) + (1.0 - x[1]) * (1 - a.real(0)));
                          });
    spec.low = 0.1;
    spec.high = 0.9;
    spec.attrs = {{"alpha", 1, ir::AttrType::Real, "weight of positive targets"},
                  {"gamma", 2, ir::AttrType::Real, "how little easy examples count"}};
    spec.attr_samples = {{0.25, 2.0}, {-1.0, 1.5}};
    spec.invalid_samples = [] { return wrong_shapes(2, {0.25, 2.0}); };
    return binary_def(spec);
  }();
  return def;
}

}  // namespace

std::vector<const OpDef*> elementwise_loss_ops() {
  return {&mse_loss_op(),
          &l1_loss_op(),
          &huber_loss_op(),
          &bce_op(),
          &bce_with_logits_op(),
          &kl_div_op(),
          &soft_margin_loss_op(),
          &hinge_embedding_loss_op(),
          &margin_ranking_loss_op(),
          &poisson_nll_loss_op(),
          &gaussian_nll_loss_op(),
          &focal_loss_op()};
}

}  // namespace tenon::ops

namespace tenon {

using ops::call1;

Tensor mse_loss(Tensor input, Tensor target, LossReduction reduction) {
  ops::expect_same_shape("mse_loss", input, target);
  return ops::reduced(call1(ops::mse_loss_op(), {std::move(input), std::move(target)}), reduction);
}
Tensor l1_loss(Tensor input, Tensor target, LossReduction reduction) {
  ops::expect_same_shape("l1_loss", input, target);
  return ops::reduced(call1(ops::l1_loss_op(), {std::move(input), std::move(target)}), reduction);
}
Tensor huber_loss(Tensor input, Tensor target, double delta, LossReduction reduction) {
  ops::expect_same_shape("huber_loss", input, target);
  if (!(delta > 0))
    throw ValueError({"huber_loss", "delta is not positive", "more than 0", fmt::format("{}", delta), {}});
  return ops::reduced(call1(ops::huber_loss_op(), {std::move(input), std::move(target)}, {delta}), reduction);
}
Tensor smooth_l1_loss(Tensor input, Tensor target, double beta, LossReduction reduction) {
  if (beta == 0) return l1_loss(std::move(input), std::move(target), reduction);
  return huber_loss(std::move(input), std::move(target), beta, reduction) / beta;
}
Tensor binary_cross_entropy(Tensor input, Tensor target, LossReduction reduction, const Tensor& weight) {
  ops::expect_same_shape("binary_cross_entropy", input, target);
  return ops::reduced(ops::weighted(call1(ops::bce_op(), {std::move(input), std::move(target)}), weight), reduction);
}
Tensor bce_with_logits(Tensor logits, Tensor target, LossReduction reduction, Tensor positive_weight,
                       const Tensor& weight) {
  ops::expect_same_shape("bce_with_logits", logits, target);
  if (!positive_weight.defined()) positive_weight = Tensor(1.0);
  return ops::reduced(
      ops::weighted(
          call1(ops::bce_with_logits_op(), {std::move(logits), std::move(target), std::move(positive_weight)}), weight),
      reduction);
}
Tensor kl_div(Tensor input, Tensor target, bool log_target, LossReduction reduction) {
  ops::expect_same_shape("kl_div", input, target);
  return ops::reduced(call1(ops::kl_div_op(), {std::move(input), std::move(target)}, {log_target}), reduction);
}
Tensor soft_margin_loss(Tensor input, Tensor target, LossReduction reduction) {
  ops::expect_same_shape("soft_margin_loss", input, target);
  return ops::reduced(call1(ops::soft_margin_loss_op(), {std::move(input), std::move(target)}), reduction);
}
Tensor hinge_embedding_loss(Tensor input, Tensor target, double margin, LossReduction reduction) {
  ops::expect_same_shape("hinge_embedding_loss", input, target);
  return ops::reduced(call1(ops::hinge_embedding_loss_op(), {std::move(input), std::move(target)}, {margin}),
                      reduction);
}
Tensor margin_ranking_loss(Tensor x1, Tensor x2, Tensor target, double margin, LossReduction reduction) {
  ops::expect_same_shape("margin_ranking_loss", x1, x2);
  return ops::reduced(call1(ops::margin_ranking_loss_op(), {std::move(x1), std::move(x2), std::move(target)}, {margin}),
                      reduction);
}
Tensor poisson_nll_loss(Tensor input, Tensor target, const PoissonNLLOptions& options) {
  ops::expect_same_shape("poisson_nll_loss", input, target);
  return ops::reduced(call1(ops::poisson_nll_loss_op(), {std::move(input), std::move(target)},
                            {options.log_input, options.full, options.epsilon}),
                      options.reduction);
}
Tensor gaussian_nll_loss(Tensor input, Tensor target, Tensor variance, const GaussianNLLOptions& options) {
  ops::expect_same_shape("gaussian_nll_loss", input, target);
  return ops::reduced(call1(ops::gaussian_nll_loss_op(), {std::move(input), std::move(target), std::move(variance)},
                            {options.full, options.epsilon}),
                      options.reduction);
}
Tensor focal_loss(Tensor logits, Tensor target, double alpha, double gamma, LossReduction reduction) {
  ops::expect_same_shape("focal_loss", logits, target);
  return ops::reduced(call1(ops::focal_loss_op(), {std::move(logits), std::move(target)}, {alpha, gamma}), reduction);
}

}  // namespace tenon
