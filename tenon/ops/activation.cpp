// Activation functions: elementwise, each one scalar program.
//
// The hot ones have their derivative as a second program (NAME_grad), so that a backward pass is one kernel; the
// others, and the derivatives themselves, are differentiated through the basic ops they consist of.
// To add one: a definition, a line in activation_ops(), a function at the end, its declaration in elementwise.h.
#include "tenon/ops/elementwise_def.h"

namespace tenon {
namespace ops {
namespace {

Scalar fn(ScalarOp op, const Scalar& x) { return apply_op(op, std::array{x}); }
Scalar max_of(const Scalar& a, const Scalar& b) { return apply_op(ScalarOp::Max, std::array{a, b}); }
Scalar min_of(const Scalar& a, const Scalar& b) { return apply_op(ScalarOp::Min, std::array{a, b}); }
Scalar sigmoid_of(const Scalar& x) { return 1.0 / (1.0 + fn(ScalarOp::Exp, -x)); }
// log(1 + exp(x)) without overflow.
Scalar softplus_of(const Scalar& x) {
  return max_of(x, 0.0) + fn(ScalarOp::Log1p, fn(ScalarOp::Exp, -fn(ScalarOp::Abs, x)));
}
constexpr double kSqrtHalf = 0.70710678118654752440;
constexpr double kInvSqrt2Pi = 0.39894228040143267794;
constexpr double kSqrt2OverPi = 0.79788456080286535588;
constexpr double kGeluCubic = 0.044715;

const AttrSpec kNegativeSlope{"negative_slope", 1, ir::AttrType::Real, "factor below 0"};
const AttrSpec kAlpha{"alpha", 1, ir::AttrType::Real, "scale of the negative part"};

const OpDef& relu_op() {
  static const OpDef def = unary_def(
      {.name = "relu",
       .doc = "max(x, 0). The derivative at 0 is taken as 0.",
       .expression = [](Scalars x, const ir::Attrs&) { return max_of(x[0], 0); },
       .gradient = Vjp{[](const VjpArgs& a) { return Tensors{where(greater(a.out[0], 0), a.ct[0], 0)}; }, 0, bit(0)},
       .low = 0.1,
       .high = 2});
  return def;
}

const OpDef& leaky_relu_op() {
  static const OpDef def = unary_def(
      {.name = "leaky_relu",
       .doc = "x above 0, negative_slope * x below.",
       .expression = [](Scalars x, const ir::Attrs& a) { return select(x[0] > 0.0, x[0], x[0] * a.real(0)); },
       .gradient =
           Vjp{[](const VjpArgs& a) { return Tensors{where(greater(a.in[0], 0), a.ct[0], a.ct[0] * a.attrs.real(0))}; },
               1, 0},
       .dtypes = kFloats,
       .promote = kPromoteToFloat,
       .low = -2,
       .high = -0.1,
       .attrs = {kNegativeSlope},
       .attr_samples = {{0.01}, {0.2}}});
  return def;
}

const OpDef& elu_op() {
  static const OpDef def =
      unary_def({.name = "elu",
                 .doc = "x above 0, alpha * (exp(x) - 1) below (Clevert et al., arXiv 1511.07289).",
                 .expression =
                     [](Scalars x, const ir::Attrs& a) {
                       return select(x[0] > 0.0, x[0], fn(ScalarOp::Expm1, min_of(x[0], 0.0)) * a.real(0));
                     },
                 .gradient = GradientOfBody{},
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .low = -2,
                 .high = -0.1,
                 .attrs = {kAlpha},
                 .attr_samples = {{1.0}, {0.5}}});
  return def;
}

const OpDef& celu_op() {
  static const OpDef def =
      unary_def({.name = "celu",
                 .doc = "max(x, 0) + min(0, alpha * (exp(x / alpha) - 1)) (Barron, arXiv 1704.07483).",
                 .expression =
                     [](Scalars x, const ir::Attrs& a) {
                       return max_of(x[0], 0.0) + fn(ScalarOp::Expm1, min_of(x[0], 0.0) / a.real(0)) * a.real(0);
                     },
                 .gradient = GradientOfBody{},
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .low = 0.1,
                 .high = 2,
                 .attrs = {kAlpha},
                 .attr_samples = {{1.0}, {0.5}}});
  return def;
}

const OpDef& selu_op() {
  static const OpDef def =
      unary_def({.name = "selu",
                 .doc = "The self-normalising ELU (Klambauer et al., arXiv 1706.02515).",
                 .expression =
                     [](Scalars x, const ir::Attrs&) {
                       return (max_of(x[0], 0.0) + fn(ScalarOp::Expm1, min_of(x[0], 0.0)) * 1.6732632423543772) *
                              1.0507009873554805;
                     },
                 .gradient = GradientOfBody{},
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .low = -2,
                 .high = -0.1});
  return def;
}

const OpDef& prelu_op() {
  static const OpDef def =
      binary_def({.name = "prelu",
                  .doc = "x above 0, slope * x below, with a learned slope (He et al., arXiv 1502.01852).",
                  .autocast = AutocastRule::Lower,
                  .expression = [](Scalars x, const ir::Attrs&) { return select(x[0] > 0.0, x[0], x[0] * x[1]); },
                  .gradient = Vjp{[](const VjpArgs& a) {
                                    const Tensor positive = greater(a.in[0], 0);
                                    return Tensors{where(positive, a.ct[0], a.ct[0] * a.in[1]),
                                                   where(positive, 0, a.ct[0] * a.in[0])};
                                  },
                                  3, 0},
                  .dtypes = kFloats,
                  .promote = kPromoteToFloat,
                  .low = -2,
                  .high = -0.1,
                  .inputs = {{"x", kFloats}, {"slope", kFloats}}});
  return def;
}

const OpDef& sigmoid_op() {
  static const OpDef def = unary_def({.name = "sigmoid",
                                      .doc = "1 / (1 + exp(-x)).",
                                      .expression = [](Scalars x, const ir::Attrs&) { return sigmoid_of(x[0]); },
                                      .gradient = times_of_output<[](const Tensor& y) { return y * (1 - y); }>(),
                                      .dtypes = kFloats,
                                      .promote = kPromoteToFloat});
  return def;
}

const OpDef& log_sigmoid_op() {
  static const OpDef def =
      unary_def({.name = "log_sigmoid",
                 .doc = "log(sigmoid(x)) without overflow.",
                 .expression = [](Scalars x, const ir::Attrs&) { return -softplus_of(-x[0]); },
                 .gradient = times_of_input<[](const Tensor& x, const ir::Attrs&) { return sigmoid(-x); }>(),
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat});
  return def;
}

const OpDef& softplus_op() {
  static const OpDef def = unary_def(
      {.name = "softplus",
       .doc = "log(1 + exp(beta * x)) / beta without overflow.",
       .autocast = AutocastRule::Full,
       .expression = [](Scalars x, const ir::Attrs& a) { return softplus_of(x[0] * a.real(0)) / a.real(0); },
       .gradient = times_of_input<[](const Tensor& x, const ir::Attrs& a) { return sigmoid(x * a.real(0)); }>(),
       .dtypes = kFloats,
       .promote = kPromoteToFloat,
       .attrs = {{"beta", 1, ir::AttrType::Real, "sharpness"}},
       .attr_samples = {{1.0}, {2.0}}});
  return def;
}

const OpDef& hard_sigmoid_op() {
  static const OpDef def =
      unary_def({.name = "hard_sigmoid",
                 .doc = "clamp(x / 6 + 1/2, 0, 1).",
                 .expression = [](Scalars x, const ir::Attrs&) { return max_of(min_of(x[0] / 6.0 + 0.5, 1.0), 0.0); },
                 .gradient = GradientOfBody{},
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat});
  return def;
}

const OpDef& hard_swish_op() {
  static const OpDef def = unary_def(
      {.name = "hard_swish",
       .doc = "x * clamp(x / 6 + 1/2, 0, 1) (Howard et al., arXiv 1905.02244).",
       .expression = [](Scalars x, const ir::Attrs&) { return x[0] * max_of(min_of(x[0] / 6.0 + 0.5, 1.0), 0.0); },
       .gradient = GradientOfBody{},
       .dtypes = kFloats,
       .promote = kPromoteToFloat});
  return def;
}

const OpDef& silu_grad_op() {
  static const OpDef def = binary_def({.name = "silu_grad",
                                       .doc = "ct times the derivative of silu at x.",
                                       .expression =
                                           [](Scalars x, const ir::Attrs&) {
                                             const Scalar s = sigmoid_of(x[1]);
                                             return x[0] * (s * (1.0 + x[1] * (1.0 - s)));
                                           },
                                       .gradient = GradientOfBody{},
                                       .dtypes = kFloats,
                                       .inputs = {{"ct", kFloats}, {"x", kFloats}}});
  return def;
}

const OpDef& silu_op() {
  static const OpDef def =
      unary_def({.name = "silu",
                 .doc = "x * sigmoid(x), also called swish.",
                 .expression = [](Scalars x, const ir::Attrs&) { return x[0] / (1.0 + fn(ScalarOp::Exp, -x[0])); },
                 .gradient = Vjp{[](const VjpArgs& a) { return call(silu_grad_op(), {a.ct[0], a.in[0]}); }, 1, 0},
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat});
  return def;
}

const OpDef& mish_op() {
  static const OpDef def =
      unary_def({.name = "mish",
                 .doc = "x * tanh(softplus(x)) (Misra, arXiv 1908.08681).",
                 .expression = [](Scalars x, const ir::Attrs&) { return x[0] * fn(ScalarOp::Tanh, softplus_of(x[0])); },
                 .gradient = GradientOfBody{},
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .low = 0.1,
                 .high = 2});
  return def;
}

const OpDef& softsign_op() {
  static const OpDef def =
      unary_def({.name = "softsign",
                 .doc = "x / (1 + |x|).",
                 .expression = [](Scalars x, const ir::Attrs&) { return x[0] / (1.0 + fn(ScalarOp::Abs, x[0])); },
                 .gradient = GradientOfBody{},
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .low = 0.1,
                 .high = 2});
  return def;
}

Scalar gelu_inner(const Scalar& x) { return (x + x * x * x * kGeluCubic) * kSqrt2OverPi; }

const OpDef& gelu_grad_op() {
  static const OpDef def = binary_def({.name = "gelu_grad",
                                       .doc = "ct times the derivative of gelu at x.",
                                       .expression =
                                           [](Scalars in, const ir::Attrs& a) {
                                             const Scalar& x = in[1];
                                             if (a.flag(0)) {
                                               const Scalar t = fn(ScalarOp::Tanh, gelu_inner(x));
                                               const Scalar slope = (1.0 + x * x * (3 * kGeluCubic)) * kSqrt2OverPi;
                                               return in[0] * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope);
                                             }
                                             const Scalar cdf = 0.5 * (1.0 + fn(ScalarOp::Erf, x * kSqrtHalf));
                                             return in[0] * (cdf + x * (fn(ScalarOp::Exp, x * x * -0.5) * kInvSqrt2Pi));
                                           },
                                       .gradient = GradientOfBody{},
                                       .dtypes = kFloats,
                                       .attrs = {{"tanh_approximation", 1, ir::AttrType::Flag, "GPT-2's form"}},
                                       .attr_samples = {{false}, {true}},
                                       .inputs = {{"ct", kFloats}, {"x", kFloats}}});
  return def;
}

const OpDef& gelu_op() {
  static const OpDef def = unary_def(
      {.name = "gelu",
       .doc = "x * Phi(x), Phi the normal distribution function, exactly or by GPT-2's tanh form "
              "(Hendrycks and Gimpel, arXiv 1606.08415).",
       .expression =
           [](Scalars in, const ir::Attrs& a) {
             const Scalar& x = in[0];
             if (a.flag(0)) return 0.5 * x * (1.0 + fn(ScalarOp::Tanh, gelu_inner(x)));
             return x * (0.5 * (1.0 + fn(ScalarOp::Erf, x * kSqrtHalf)));
           },
       .gradient = Vjp{[](const VjpArgs& a) { return call(gelu_grad_op(), {a.ct[0], a.in[0]}, a.attrs); }, 1, 0},
       .dtypes = kFloats,
       .promote = kPromoteToFloat,
       .attrs = {{"tanh_approximation", 1, ir::AttrType::Flag, "GPT-2's form"}},
       .attr_samples = {{false}, {true}}});
  return def;
}

}  // namespace

std::vector<const OpDef*> activation_ops() {
  return {&relu_op(),    &leaky_relu_op(),  &elu_op(),      &celu_op(),         &selu_op(),       &prelu_op(),
          &sigmoid_op(), &log_sigmoid_op(), &softplus_op(), &hard_sigmoid_op(), &hard_swish_op(), &silu_grad_op(),
          &silu_op(),    &mish_op(),        &softsign_op(), &gelu_grad_op(),    &gelu_op()};
}

}  // namespace ops

using ops::call1;

Tensor relu(Tensor x) { return call1(ops::relu_op(), {std::move(x)}); }
Tensor leaky_relu(Tensor x, double negative_slope) {
  return call1(ops::leaky_relu_op(), {std::move(x)}, {negative_slope});
}
Tensor elu(Tensor x, double alpha) { return call1(ops::elu_op(), {std::move(x)}, {alpha}); }
Tensor celu(Tensor x, double alpha) { return call1(ops::celu_op(), {std::move(x)}, {alpha}); }
Tensor selu(Tensor x) { return call1(ops::selu_op(), {std::move(x)}); }
Tensor prelu(Tensor x, Tensor slope) { return call1(ops::prelu_op(), {std::move(x), std::move(slope)}); }
Tensor sigmoid(Tensor x) { return call1(ops::sigmoid_op(), {std::move(x)}); }
Tensor log_sigmoid(Tensor x) { return call1(ops::log_sigmoid_op(), {std::move(x)}); }
Tensor softplus(Tensor x, double beta) { return call1(ops::softplus_op(), {std::move(x)}, {beta}); }
Tensor hard_sigmoid(Tensor x) { return call1(ops::hard_sigmoid_op(), {std::move(x)}); }
Tensor hard_swish(Tensor x) { return call1(ops::hard_swish_op(), {std::move(x)}); }
Tensor hard_tanh(Tensor x, double low, double high) { return clamp(std::move(x), low, high); }
Tensor relu6(Tensor x) { return clamp(std::move(x), 0, 6); }
Tensor silu(Tensor x) { return call1(ops::silu_op(), {std::move(x)}); }
Tensor mish(Tensor x) { return call1(ops::mish_op(), {std::move(x)}); }
Tensor softsign(Tensor x) { return call1(ops::softsign_op(), {std::move(x)}); }
Tensor gelu(Tensor x, bool tanh_approximation) { return call1(ops::gelu_op(), {std::move(x)}, {tanh_approximation}); }

}  // namespace tenon
