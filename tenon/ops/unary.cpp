// Elementwise functions of one tensor.
// To add one: a definition, a line in unary_ops(), a function at the end, its declaration in elementwise.h.
#include "tenon/ops/elementwise_def.h"
#include "tenon/ops/special.h"

namespace tenon {
namespace ops {
namespace {

const OpDef& negative_op() {
  static const OpDef def =
      unary_def({.name = "negative",
                 .doc = "The negative of each element; unsigned integers wrap.",
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Neg, std::array{x[0]}); },
                 .gradient = Vjp{[](const VjpArgs& a) { return Tensors{-a.ct[0]}; }},
                 .dtypes = kNumbers,
                 .promote = kPromoteAll,
                 .low = -2,
                 .high = 2});
  return def;
}

const OpDef& abs_op() {
  static const OpDef def =
      unary_def({.name = "abs",
                 .doc = "The magnitude of each element. The derivative at 0 is taken as 0.",
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Abs, std::array{x[0]}); },
                 .gradient = times_of_input<[](const Tensor& x, const ir::Attrs&) { return sign(x); }>(),
                 .dtypes = kNumbers,
                 .promote = kPromoteAll,
                 .low = 0.2,
                 .high = 2});
  return def;
}

const OpDef& sign_op() {
  static const OpDef def =
      unary_def({.name = "sign",
                 .doc = "-1, 0 or 1; NaN stays NaN.",
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Sign, std::array{x[0]}); },
                 .gradient = Gradient{NoGradient{kPiecewiseConstant}},
                 .dtypes = kNumbers,
                 .promote = kPromoteAll,
                 .low = -2,
                 .high = 2});
  return def;
}

const OpDef& floor_op() {
  static const OpDef def =
      unary_def({.name = "floor",
                 .doc = "The largest integer not above each element.",
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Floor, std::array{x[0]}); },
                 .gradient = Gradient{NoGradient{kPiecewiseConstant}},
                 .dtypes = kNumbers,
                 .promote = kPromoteAll,
                 .low = -2,
                 .high = 2});
  return def;
}

const OpDef& ceil_op() {
  static const OpDef def =
      unary_def({.name = "ceil",
                 .doc = "The smallest integer not below each element.",
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Ceil, std::array{x[0]}); },
                 .gradient = Gradient{NoGradient{kPiecewiseConstant}},
                 .dtypes = kNumbers,
                 .promote = kPromoteAll,
                 .low = -2,
                 .high = 2});
  return def;
}

const OpDef& round_op() {
  static const OpDef def =
      unary_def({.name = "round",
                 .doc = "The nearest integer, ties to even.",
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Round, std::array{x[0]}); },
                 .gradient = Gradient{NoGradient{kPiecewiseConstant}},
                 .dtypes = kNumbers,
                 .promote = kPromoteAll,
                 .low = -2,
                 .high = 2});
  return def;
}

const OpDef& trunc_op() {
  static const OpDef def =
      unary_def({.name = "trunc",
                 .doc = "Each element without its fraction.",
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Trunc, std::array{x[0]}); },
                 .gradient = Gradient{NoGradient{kPiecewiseConstant}},
                 .dtypes = kNumbers,
                 .promote = kPromoteAll,
                 .low = -2,
                 .high = 2});
  return def;
}

const OpDef& sqrt_op() {
  static const OpDef def =
      unary_def({.name = "sqrt",
                 .doc = "The square root; NaN below 0.",
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Sqrt, std::array{x[0]}); },
                 .gradient = times_of_output<[](const Tensor& y) { return 0.5 / y; }>(),
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .low = 0.1,
                 .high = 4});
  return def;
}

const OpDef& cbrt_op() {
  static const OpDef def =
      unary_def({.name = "cbrt",
                 .doc = "The cube root.",
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Cbrt, std::array{x[0]}); },
                 .gradient = times_of_output<[](const Tensor& y) { return (1.0 / 3.0) / (y * y); }>(),
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .low = 0.2,
                 .high = 3});
  return def;
}

const OpDef& exp_op() {
  static const OpDef def =
      unary_def({.name = "exp",
                 .doc = "e to each element.",
                 .autocast = AutocastRule::Full,
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Exp, std::array{x[0]}); },
                 .gradient = times_of_output<[](const Tensor& y) { return y; }>(),
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .low = -2,
                 .high = 2});
  return def;
}

const OpDef& exp2_op() {
  static const OpDef def =
      unary_def({.name = "exp2",
                 .doc = "2 to each element.",
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Exp2, std::array{x[0]}); },
                 .gradient = times_of_output<[](const Tensor& y) { return y * 0.69314718055994530942; }>(),
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .low = -2,
                 .high = 2});
  return def;
}

const OpDef& expm1_op() {
  static const OpDef def =
      unary_def({.name = "expm1",
                 .doc = "exp(x) - 1, accurate near 0.",
                 .autocast = AutocastRule::Full,
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Expm1, std::array{x[0]}); },
                 .gradient = times_of_output<[](const Tensor& y) { return y + 1.0; }>(),
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .low = -2,
                 .high = 2});
  return def;
}

const OpDef& log_op() {
  static const OpDef def =
      unary_def({.name = "log",
                 .doc = "The natural logarithm; -inf at 0, NaN below.",
                 .autocast = AutocastRule::Full,
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Log, std::array{x[0]}); },
                 .gradient = times_of_input<[](const Tensor& x, const ir::Attrs&) { return reciprocal(x); }>(),
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .low = 0.1,
                 .high = 4});
  return def;
}

const OpDef& log2_op() {
  static const OpDef def = unary_def(
      {.name = "log2",
       .doc = "The logarithm to base 2.",
       .autocast = AutocastRule::Full,
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Log2, std::array{x[0]}); },
       .gradient = times_of_input<[](const Tensor& x, const ir::Attrs&) { return 1.4426950408889634074 / x; }>(),
       .dtypes = kFloats,
       .promote = kPromoteToFloat,
       .low = 0.1,
       .high = 4});
  return def;
}

const OpDef& log10_op() {
  static const OpDef def = unary_def(
      {.name = "log10",
       .doc = "The logarithm to base 10.",
       .autocast = AutocastRule::Full,
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Log10, std::array{x[0]}); },
       .gradient = times_of_input<[](const Tensor& x, const ir::Attrs&) { return 0.43429448190325182765 / x; }>(),
       .dtypes = kFloats,
       .promote = kPromoteToFloat,
       .low = 0.1,
       .high = 4});
  return def;
}

const OpDef& log1p_op() {
  static const OpDef def =
      unary_def({.name = "log1p",
                 .doc = "log(1 + x), accurate near 0.",
                 .autocast = AutocastRule::Full,
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Log1p, std::array{x[0]}); },
                 .gradient = times_of_input<[](const Tensor& x, const ir::Attrs&) { return reciprocal(x + 1.0); }>(),
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .low = -0.5,
                 .high = 3});
  return def;
}

const OpDef& sin_op() {
  static const OpDef def =
      unary_def({.name = "sin",
                 .doc = "The sine of an angle in radians.",
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Sin, std::array{x[0]}); },
                 .gradient = times_of_input<[](const Tensor& x, const ir::Attrs&) { return cos(x); }>(),
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .low = -2,
                 .high = 2});
  return def;
}

const OpDef& cos_op() {
  static const OpDef def =
      unary_def({.name = "cos",
                 .doc = "The cosine of an angle in radians.",
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Cos, std::array{x[0]}); },
                 .gradient = times_of_input<[](const Tensor& x, const ir::Attrs&) { return -sin(x); }>(),
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .low = -2,
                 .high = 2});
  return def;
}

const OpDef& tan_op() {
  static const OpDef def =
      unary_def({.name = "tan",
                 .doc = "The tangent of an angle in radians.",
                 .autocast = AutocastRule::Full,
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Tan, std::array{x[0]}); },
                 .gradient = times_of_output<[](const Tensor& y) { return y * y + 1.0; }>(),
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .low = -1,
                 .high = 1});
  return def;
}

const OpDef& asin_op() {
  static const OpDef def =
      unary_def({.name = "asin",
                 .doc = "The angle in [-pi/2, pi/2] whose sine is x; NaN outside [-1, 1].",
                 .autocast = AutocastRule::Full,
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Asin, std::array{x[0]}); },
                 .gradient = times_of_input<[](const Tensor& x, const ir::Attrs&) { return rsqrt(1.0 - x * x); }>(),
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .low = -0.9,
                 .high = 0.9});
  return def;
}

const OpDef& acos_op() {
  static const OpDef def =
      unary_def({.name = "acos",
                 .doc = "The angle in [0, pi] whose cosine is x; NaN outside [-1, 1].",
                 .autocast = AutocastRule::Full,
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Acos, std::array{x[0]}); },
                 .gradient = times_of_input<[](const Tensor& x, const ir::Attrs&) { return -rsqrt(1.0 - x * x); }>(),
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .low = -0.9,
                 .high = 0.9});
  return def;
}

const OpDef& atan_op() {
  static const OpDef def = unary_def(
      {.name = "atan",
       .doc = "The angle in (-pi/2, pi/2) whose tangent is x.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Atan, std::array{x[0]}); },
       .gradient = times_of_input<[](const Tensor& x, const ir::Attrs&) { return reciprocal(x * x + 1.0); }>(),
       .dtypes = kFloats,
       .promote = kPromoteToFloat,
       .low = -2,
       .high = 2});
  return def;
}

const OpDef& sinh_op() {
  static const OpDef def =
      unary_def({.name = "sinh",
                 .doc = "The hyperbolic sine.",
                 .autocast = AutocastRule::Full,
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Sinh, std::array{x[0]}); },
                 .gradient = times_of_input<[](const Tensor& x, const ir::Attrs&) { return cosh(x); }>(),
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .low = -2,
                 .high = 2});
  return def;
}

const OpDef& cosh_op() {
  static const OpDef def =
      unary_def({.name = "cosh",
                 .doc = "The hyperbolic cosine.",
                 .autocast = AutocastRule::Full,
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Cosh, std::array{x[0]}); },
                 .gradient = times_of_input<[](const Tensor& x, const ir::Attrs&) { return sinh(x); }>(),
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .low = -2,
                 .high = 2});
  return def;
}

const OpDef& tanh_op() {
  static const OpDef def =
      unary_def({.name = "tanh",
                 .doc = "The hyperbolic tangent.",
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Tanh, std::array{x[0]}); },
                 .gradient = times_of_output<[](const Tensor& y) { return 1.0 - y * y; }>(),
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .low = -2,
                 .high = 2});
  return def;
}

const OpDef& asinh_op() {
  static const OpDef def =
      unary_def({.name = "asinh",
                 .doc = "The inverse hyperbolic sine.",
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Asinh, std::array{x[0]}); },
                 .gradient = times_of_input<[](const Tensor& x, const ir::Attrs&) { return rsqrt(x * x + 1.0); }>(),
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .low = -2,
                 .high = 2});
  return def;
}

const OpDef& acosh_op() {
  static const OpDef def =
      unary_def({.name = "acosh",
                 .doc = "The inverse hyperbolic cosine; NaN below 1.",
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Acosh, std::array{x[0]}); },
                 .gradient = times_of_input<[](const Tensor& x, const ir::Attrs&) { return rsqrt(x * x - 1.0); }>(),
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .low = 1.2,
                 .high = 4});
  return def;
}

const OpDef& atanh_op() {
  static const OpDef def = unary_def(
      {.name = "atanh",
       .doc = "The inverse hyperbolic tangent; NaN outside [-1, 1].",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Atanh, std::array{x[0]}); },
       .gradient = times_of_input<[](const Tensor& x, const ir::Attrs&) { return reciprocal(1.0 - x * x); }>(),
       .dtypes = kFloats,
       .promote = kPromoteToFloat,
       .low = -0.9,
       .high = 0.9});
  return def;
}

const OpDef& erf_op() {
  static const OpDef def = unary_def(
      {.name = "erf",
       .doc = "The error function.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Erf, std::array{x[0]}); },
       .gradient =
           times_of_input<[](const Tensor& x, const ir::Attrs&) { return exp(-x * x) * 1.1283791670955125739; }>(),
       .dtypes = kFloats,
       .promote = kPromoteToFloat,
       .low = -2,
       .high = 2});
  return def;
}

const OpDef& erfc_op() {
  static const OpDef def = unary_def(
      {.name = "erfc",
       .doc = "1 - erf(x), accurate for large x.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Erfc, std::array{x[0]}); },
       .gradient =
           times_of_input<[](const Tensor& x, const ir::Attrs&) { return exp(-x * x) * -1.1283791670955125739; }>(),
       .dtypes = kFloats,
       .promote = kPromoteToFloat,
       .low = -2,
       .high = 2});
  return def;
}

const OpDef& erfinv_op() {
  static const OpDef def =
      unary_def({.name = "erfinv",
                 .doc = "The inverse of erf; NaN outside [-1, 1].",
                 .autocast = AutocastRule::Full,
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Erfinv, std::array{x[0]}); },
                 .gradient = times_of_output<[](const Tensor& y) { return exp(y * y) * 0.88622692545275801365; }>(),
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .low = -0.9,
                 .high = 0.9,
                 .tolerance = {32, 1e-5}});
  return def;
}

const OpDef& lgamma_op() {
  static const OpDef def =
      unary_def({.name = "lgamma",
                 .doc = "log |Gamma(x)|.",
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Lgamma, std::array{x[0]}); },
                 .gradient = times_of_input<[](const Tensor& x, const ir::Attrs&) { return digamma(x); }>(),
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .low = 0.3,
                 .high = 4,
                 .tolerance = {16, 1e-5}});
  return def;
}

const OpDef& digamma_op() {
  static const OpDef def = unary_def(
      {.name = "digamma",
       .doc = "The derivative of log Gamma.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Digamma, std::array{x[0]}); },
       .gradient = times_of_input<[](const Tensor& x, const ir::Attrs&) { return trigamma(x); }>(),
       .dtypes = kFloats,
       .promote = kPromoteToFloat,
       .low = 0.5,
       .high = 4,
       .tolerance = {64, 1e-5}});
  return def;
}

const OpDef& square_op() {
  static const OpDef def =
      unary_def({.name = "square",
                 .doc = "x * x.",
                 .expression = [](Scalars x, const ir::Attrs&) { return x[0] * x[0]; },
                 .gradient = times_of_input<[](const Tensor& x, const ir::Attrs&) { return x * 2; }>()});
  return def;
}

const OpDef& reciprocal_op() {
  static const OpDef def = unary_def({.name = "reciprocal",
                                      .doc = "1 / x.",
                                      .autocast = AutocastRule::Full,
                                      .expression = [](Scalars x, const ir::Attrs&) { return 1.0 / x[0]; },
                                      .gradient = times_of_output<[](const Tensor& y) { return -(y * y); }>(),
                                      .dtypes = kFloats,
                                      .promote = kPromoteToFloat,
                                      .low = 0.3,
                                      .high = 3});
  return def;
}

const OpDef& rsqrt_op() {
  static const OpDef def = unary_def(
      {.name = "rsqrt",
       .doc = "1 / sqrt(x).",
       .autocast = AutocastRule::Full,
       .expression = [](Scalars x, const ir::Attrs&) { return 1.0 / apply_op(ScalarOp::Sqrt, std::array{x[0]}); },
       .gradient = times_of_output<[](const Tensor& y) { return y * y * y * -0.5; }>(),
       .dtypes = kFloats,
       .promote = kPromoteToFloat,
       .low = 0.3,
       .high = 3});
  return def;
}

// The result dtype is the attribute; to the user's function it is an argument.
const OpDef& cast_op() {
  static const OpDef def = [] {
    OpDef d = unary_def(
        {.name = "cast",
         .doc =
             "x with another element type. Float to integer truncates and saturates, NaN becomes 0; to bool is x != 0; "
             "to a narrower float rounds to nearest even.",
         .expression = [](Scalars x, const ir::Attrs&) { return x[0]; },
         .gradient =
             Vjp{[](const VjpArgs& a) { return Tensors{a.ct[0]}; }},  // the caller casts it to the input's dtype
         .dtypes = kAny,
         .promote = kNoPromotion,
         .attrs = {{"dtype", 1, ir::AttrType::Dtype, "the result's element type"}},
         .attr_samples = {{DType::F32}, {DType::F64}, {DType::I32}, {DType::Bool}, {DType::BF16}}});
    std::get<Elementwise>(d.meaning).result = [](std::span<const DType>, const ir::Attrs& attrs) {
      return attrs.dtype(0);
    };
    return d;
  }();
  return def;
}

}  // namespace

std::vector<const OpDef*> unary_ops() {
  return {&cast_op(),       &negative_op(), &abs_op(),   &sign_op(),   &floor_op(),  &ceil_op(),    &round_op(),
          &trunc_op(),      &sqrt_op(),     &cbrt_op(),  &exp_op(),    &exp2_op(),   &expm1_op(),   &log_op(),
          &log2_op(),       &log10_op(),    &log1p_op(), &sin_op(),    &cos_op(),    &tan_op(),     &asin_op(),
          &acos_op(),       &atan_op(),     &sinh_op(),  &cosh_op(),   &tanh_op(),   &asinh_op(),   &acosh_op(),
          &atanh_op(),      &erf_op(),      &erfc_op(),  &erfinv_op(), &lgamma_op(), &digamma_op(), &square_op(),
          &reciprocal_op(), &rsqrt_op()};
}

}  // namespace ops

using ops::call1;

Tensor cast(Tensor x, DType dtype) {
  if (x.defined() && x.dtype() == dtype && !x.impl()->weak) return x;
  if (x.defined() && x.impl()->weak) x = strengthen(x, dtype);
  if (x.defined() && x.dtype() == dtype) return x;
  return call1(ops::cast_op(), {std::move(x)}, {dtype});
}
Tensor negative(Tensor x) { return call1(ops::negative_op(), {std::move(x)}); }
Tensor abs(Tensor x) { return call1(ops::abs_op(), {std::move(x)}); }
Tensor sign(Tensor x) { return call1(ops::sign_op(), {std::move(x)}); }
Tensor floor(Tensor x) { return call1(ops::floor_op(), {std::move(x)}); }
Tensor ceil(Tensor x) { return call1(ops::ceil_op(), {std::move(x)}); }
Tensor round(Tensor x) { return call1(ops::round_op(), {std::move(x)}); }
Tensor trunc(Tensor x) { return call1(ops::trunc_op(), {std::move(x)}); }
Tensor sqrt(Tensor x) { return call1(ops::sqrt_op(), {std::move(x)}); }
Tensor cbrt(Tensor x) { return call1(ops::cbrt_op(), {std::move(x)}); }
Tensor exp(Tensor x) { return call1(ops::exp_op(), {std::move(x)}); }
Tensor exp2(Tensor x) { return call1(ops::exp2_op(), {std::move(x)}); }
Tensor expm1(Tensor x) { return call1(ops::expm1_op(), {std::move(x)}); }
Tensor log(Tensor x) { return call1(ops::log_op(), {std::move(x)}); }
Tensor log2(Tensor x) { return call1(ops::log2_op(), {std::move(x)}); }
Tensor log10(Tensor x) { return call1(ops::log10_op(), {std::move(x)}); }
Tensor log1p(Tensor x) { return call1(ops::log1p_op(), {std::move(x)}); }
Tensor sin(Tensor x) { return call1(ops::sin_op(), {std::move(x)}); }
Tensor cos(Tensor x) { return call1(ops::cos_op(), {std::move(x)}); }
Tensor tan(Tensor x) { return call1(ops::tan_op(), {std::move(x)}); }
Tensor asin(Tensor x) { return call1(ops::asin_op(), {std::move(x)}); }
Tensor acos(Tensor x) { return call1(ops::acos_op(), {std::move(x)}); }
Tensor atan(Tensor x) { return call1(ops::atan_op(), {std::move(x)}); }
Tensor sinh(Tensor x) { return call1(ops::sinh_op(), {std::move(x)}); }
Tensor cosh(Tensor x) { return call1(ops::cosh_op(), {std::move(x)}); }
Tensor tanh(Tensor x) { return call1(ops::tanh_op(), {std::move(x)}); }
Tensor asinh(Tensor x) { return call1(ops::asinh_op(), {std::move(x)}); }
Tensor acosh(Tensor x) { return call1(ops::acosh_op(), {std::move(x)}); }
Tensor atanh(Tensor x) { return call1(ops::atanh_op(), {std::move(x)}); }
Tensor erf(Tensor x) { return call1(ops::erf_op(), {std::move(x)}); }
Tensor erfc(Tensor x) { return call1(ops::erfc_op(), {std::move(x)}); }
Tensor erfinv(Tensor x) { return call1(ops::erfinv_op(), {std::move(x)}); }
Tensor lgamma(Tensor x) { return call1(ops::lgamma_op(), {std::move(x)}); }
Tensor digamma(Tensor x) { return call1(ops::digamma_op(), {std::move(x)}); }
Tensor square(Tensor x) { return call1(ops::square_op(), {std::move(x)}); }
Tensor reciprocal(Tensor x) { return call1(ops::reciprocal_op(), {std::move(x)}); }
Tensor rsqrt(Tensor x) { return call1(ops::rsqrt_op(), {std::move(x)}); }

}  // namespace tenon
