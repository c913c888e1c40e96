// Arithmetic of two and three tensors.
// To add an op: a definition, a line in arithmetic_ops(), a function at the end, its declaration in elementwise.h.
#include "tenon/ops/elementwise_def.h"

namespace tenon {
namespace ops {
namespace {

// Quotients away from whole numbers, where the derivative jumps.
std::vector<Sample> remainder_samples() {
  return {{{{{2, 3}, 0, 0, {5.3, 4.2, 7.7, 1.4, 2.6, 9.1}}, {{2, 3}, 0, 0, {2, 3, 3, 2, 4, 4}}}},
          {{{{3}, 0, 0, {5.3, -4.2, 7.7}}, {{1}, 0, 0, {3}}}}};
}

Scalar log_add_exp(const Scalar& a, const Scalar& b) {
  const Scalar top = apply_op(ScalarOp::Max, std::array{a, b});
  const Scalar gap = -apply_op(ScalarOp::Abs, std::array{a - b});
  const Scalar sum = top + apply_op(ScalarOp::Log1p, std::array{apply_op(ScalarOp::Exp, std::array{gap})});
  // Equal infinities would give inf - inf.
  return select(apply_op(ScalarOp::Eq, std::array{a, b}), a + 0.69314718055994530942, sum);
}

const OpDef& add_op() {
  static const OpDef def = binary_def(
      {.name = "add",
       .doc = "a + b.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Add, std::array{x[0], x[1]}); },
       .gradient = Vjp{[](const VjpArgs& a) { return Tensors{a.ct[0], a.ct[0]}; }, 0, 0},
       .dtypes = kCompute,
       .promote = kPromoteAll,
       .low = -2,
       .high = 2});
  return def;
}

const OpDef& subtract_op() {
  static const OpDef def = binary_def(
      {.name = "subtract",
       .doc = "a - b.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Sub, std::array{x[0], x[1]}); },
       .gradient = Vjp{[](const VjpArgs& a) { return Tensors{a.ct[0], -a.ct[0]}; }, 0, 0},
       .dtypes = kNumbers,
       .promote = kPromoteAll,
       .low = -2,
       .high = 2});
  return def;
}

const OpDef& multiply_op() {
  static const OpDef def = binary_def(
      {.name = "multiply",
       .doc = "a * b.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Mul, std::array{x[0], x[1]}); },
       .gradient = Vjp{[](const VjpArgs& a) {
                         return Tensors{a.needs[0] ? a.ct[0] * a.in[1] : Tensor(),
                                        a.needs[1] ? a.ct[0] * a.in[0] : Tensor()};
                       },
                       3, 0},
       .dtypes = kCompute,
       .promote = kPromoteAll,
       .low = -2,
       .high = 2});
  return def;
}

const OpDef& divide_op() {
  static const OpDef def = binary_def(
      {.name = "divide",
       .doc = "a / b as real numbers: integers give f32.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Div, std::array{x[0], x[1]}); },
       .gradient = Vjp{[](const VjpArgs& a) {
                         const Tensor da = a.ct[0] / a.in[1];
                         return Tensors{da, a.needs[1] ? -(da * a.out[0]) : Tensor()};
                       },
                       2, 1},
       .dtypes = kFloats,
       .promote = kPromoteToFloat,
       .low = 0.3,
       .high = 2});
  return def;
}

const OpDef& floor_divide_op() {
  static const OpDef def = binary_def(
      {.name = "floor_divide",
       .doc = "The quotient rounded towards minus infinity; for integers a zero divisor gives 0.",
       .expression =
           [](Scalars x, const ir::Attrs&) {
             return is_float(x[0].dtype()) ? apply_op(ScalarOp::Floor, std::array{x[0] / x[1]}) : x[0] / x[1];
           },
       .gradient = NoGradient{kPiecewiseConstant},
       .dtypes = kNumbers,
       .promote = kPromoteAll,
       .low = 0.3,
       .high = 3});
  return def;
}

const OpDef& remainder_op() {
  static const OpDef def = binary_def(
      {.name = "remainder",
       .doc = "a - b * floor(a / b): the sign is the divisor's. For integers a zero divisor gives 0.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Rem, std::array{x[0], x[1]}); },
       .gradient =
           Vjp{[](const VjpArgs& a) { return Tensors{a.ct[0], -a.ct[0] * floor_divide(a.in[0], a.in[1])}; }, 3, 0},
       .dtypes = kNumbers,
       .promote = kPromoteAll,
       .low = 0.31,
       .high = 2.9,
       .samples = remainder_samples});
  return def;
}

const OpDef& fmod_op() {
  static const OpDef def = binary_def(
      {.name = "fmod",
       .doc = "a - b * trunc(a / b): the sign is the dividend's.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Fmod, std::array{x[0], x[1]}); },
       .gradient = Vjp{[](const VjpArgs& a) { return Tensors{a.ct[0], -a.ct[0] * trunc(a.in[0] / a.in[1])}; }, 3, 0},
       .dtypes = kNumbers,
       .promote = kPromoteAll,
       .low = 0.31,
       .high = 2.9,
       .samples = remainder_samples});
  return def;
}

const OpDef& power_op() {
  static const OpDef def = binary_def(
      {.name = "power",
       .doc = "a to the power b. A negative base with a fractional exponent gives NaN; integers to negative powers "
              "give 0 (1 and -1 excepted).",
       .autocast = AutocastRule::Full,
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Pow, std::array{x[0], x[1]}); },
       .gradient = Vjp{[](const VjpArgs& a) {
                         const Tensor& x = a.in[0];
                         const Tensor& y = a.in[1];
                         Tensor dx, dy;
                         // y = 0 and x = 0 are kept away from 0 * inf.
                         if (a.needs[0])
                           dx = a.ct[0] * where(equal(y, 0), 0, y * power(x, where(equal(y, 0), 1, y - 1)));
                         if (a.needs[1]) dy = a.ct[0] * where(equal(x, 0), 0, a.out[0] * log(where(equal(x, 0), 1, x)));
                         return Tensors{dx, dy};
                       },
                       3, 1},
       .dtypes = kNumbers,
       .promote = kPromoteAll,
       .low = 0.4,
       .high = 2,
       .tolerance = {16, 1e-5}});
  return def;
}

const OpDef& maximum_op() {
  static const OpDef def = binary_def(
      {.name = "maximum",
       .doc = "The larger element; NaN if either is NaN. At a tie the gradient is shared equally.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Max, std::array{x[0], x[1]}); },
       .gradient =
           Vjp{[](const VjpArgs& a) {
                 return Tensors{
                     where(equal(a.in[0], a.in[1]), 0.5 * a.ct[0], where(greater(a.in[0], a.in[1]), a.ct[0], 0)),
                     where(equal(a.in[0], a.in[1]), 0.5 * a.ct[0], where(greater(a.in[1], a.in[0]), a.ct[0], 0))};
               },
               3, 0},
       .dtypes = kCompute,
       .promote = kPromoteAll,
       .low = -2,
       .high = 2});
  return def;
}

const OpDef& minimum_op() {
  static const OpDef def = binary_def(
      {.name = "minimum",
       .doc = "The smaller element; NaN if either is NaN. At a tie the gradient is shared equally.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Min, std::array{x[0], x[1]}); },
       .gradient = Vjp{[](const VjpArgs& a) {
                         return Tensors{
                             where(equal(a.in[0], a.in[1]), 0.5 * a.ct[0], where(less(a.in[0], a.in[1]), a.ct[0], 0)),
                             where(equal(a.in[0], a.in[1]), 0.5 * a.ct[0], where(less(a.in[1], a.in[0]), a.ct[0], 0))};
                       },
                       3, 0},
       .dtypes = kCompute,
       .promote = kPromoteAll,
       .low = -2,
       .high = 2});
  return def;
}

const OpDef& atan2_op() {
  static const OpDef def = binary_def(
      {.name = "atan2",
       .doc = "The angle of the point (b, a), in (-pi, pi].",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Atan2, std::array{x[0], x[1]}); },
       .gradient = Vjp{[](const VjpArgs& a) {
                         const Tensor s = a.ct[0] / (square(a.in[0]) + square(a.in[1]));
                         return Tensors{s * a.in[1], -s * a.in[0]};
                       },
                       3, 0},
       .dtypes = kFloats,
       .promote = kPromoteToFloat,
       .low = 0.3,
       .high = 2});
  return def;
}

const OpDef& logaddexp_op() {
  static const OpDef def = binary_def(
      {.name = "logaddexp",
       .doc = "log(exp(a) + exp(b)) without overflow.",
       .expression = [](Scalars x, const ir::Attrs&) { return log_add_exp(x[0], x[1]); },
       .gradient = Vjp{[](const VjpArgs& a) {
                         return Tensors{a.ct[0] * exp(a.in[0] - a.out[0]), a.ct[0] * exp(a.in[1] - a.out[0])};
                       },
                       3, 1},
       .dtypes = kFloats,
       .promote = kPromoteToFloat,
       .low = -2,
       .high = 2,
       .tolerance = {16, 1e-5}});
  return def;
}

const OpDef& hypot_op() {
  static const OpDef def = binary_def(
      {.name = "hypot",
       .doc = "sqrt(a*a + b*b).",
       .expression = [](Scalars x,
                        const ir::Attrs&) { return apply_op(ScalarOp::Sqrt, std::array{x[0] * x[0] + x[1] * x[1]}); },
       .gradient =
           Vjp{[](const VjpArgs& a) { return Tensors{a.ct[0] * a.in[0] / a.out[0], a.ct[0] * a.in[1] / a.out[0]}; }, 3,
               1},
       .dtypes = kFloats,
       .promote = kPromoteToFloat,
       .low = 0.3,
       .high = 2});
  return def;
}

const OpDef& copysign_op() {
  static const OpDef def = binary_def(
      {.name = "copysign",
       .doc = "The magnitude of a with the sign of b.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::CopySign, std::array{x[0], x[1]}); },
       .gradient =
           Vjp{[](const VjpArgs& a) { return Tensors{a.ct[0] * copysign(1.0, a.in[1]) * sign(a.in[0]), Tensor()}; }, 3,
               0},
       .dtypes = kFloats,
       .promote = kPromoteToFloat,
       .low = 0.3,
       .high = 2});
  return def;
}

const OpDef& nextafter_op() {
  static const OpDef def = binary_def(
      {.name = "nextafter",
       .doc = "The next representable number from a towards b.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::NextAfter, std::array{x[0], x[1]}); },
       .gradient = NoGradient{"a step of one unit in the last place"},
       .dtypes = kFullFloats,
       .promote = kPromoteToFloat,
       .low = -2,
       .high = 2});
  return def;
}

const OpDef& where_op() {
  static const OpDef def =
      binary_def({.name = "where",
                  .doc = "a where the condition holds, b elsewhere.",
                  .expression = [](Scalars x, const ir::Attrs&) { return select(x[0], x[1], x[2]); },
                  .gradient = Vjp{[](const VjpArgs& a) {
                                    return Tensors{Tensor(), a.needs[1] ? where(a.in[0], a.ct[0], 0) : Tensor(),
                                                   a.needs[2] ? where(a.in[0], 0, a.ct[0]) : Tensor()};
                                  },
                                  1, 0},
                  .promote = {6, false},
                  .inputs = {{"condition", kBool}, {"a", kCompute}, {"b", kCompute}},
                  .samples =
                      [] {
                        return std::vector<Sample>{
                            {{{{2, 3}, 0, 0, {1, 0, 1, 0, 0, 1}, static_cast<int>(DType::Bool)}, {{2, 3}}, {{2, 3}}}},
                            {{{{3}, 0, 0, {1, 0, 1}, static_cast<int>(DType::Bool)}, {{2, 3}}, {{}}}}};
                      }});
  // The condition's dtype is not the result's.
  static const OpDef fixed = [] {
    OpDef d = def;
    std::get<Elementwise>(d.meaning).result = [](std::span<const DType> in, const ir::Attrs&) { return in[1]; };
    d.takes = bit(1) | bit(2);
    return d;
  }();
  return fixed;
}

const OpDef& clamp_op() {
  static const OpDef def = binary_def(
      {.name = "clamp",
       .doc = "min(max(x, low), high). The gradient flows to x inside the bounds, to a bound beyond it.",
       .expression =
           [](Scalars x, const ir::Attrs&) {
             return apply_op(ScalarOp::Min, std::array{apply_op(ScalarOp::Max, std::array{x[0], x[1]}), x[2]});
           },
       .gradient = Vjp{[](const VjpArgs& a) {
                         const Tensor below = less(a.in[0], a.in[1]), above = greater(a.in[0], a.in[2]);
                         return Tensors{where(logical_or(below, above), 0, a.ct[0]),
                                        a.needs[1] ? where(below, a.ct[0], 0) : Tensor(),
                                        a.needs[2] ? where(above, a.ct[0], 0) : Tensor()};
                       },
                       7, 0},
       .inputs = {{"x", kNumbers}, {"low", kNumbers}, {"high", kNumbers}},
       .samples =
           [] {
             return std::vector<Sample>{
                 {{{{2, 3}, 0, 0, {-2.5, -0.7, 0.2, 0.4, 1.3, 2.1}}, {{}, 0, 0, {-1}}, {{}, 0, 0, {1}}}},
                 {{{{2, 3}, 0, 0, {-2.5, -0.7, 0.2, 0.4, 1.3, 2.1}},
                   {{3}, 0, 0, {-1, -1, -1}},
                   {{2, 1}, 0, 0, {1, 2}}}}};
           }});
  return def;
}

const OpDef& lerp_op() {
  static const OpDef def =
      binary_def({.name = "lerp",
                  .doc = "a + weight * (b - a).",
                  .expression = [](Scalars x, const ir::Attrs&) { return x[0] + x[2] * (x[1] - x[0]); },
                  .gradient = Vjp{[](const VjpArgs& a) {
                                    return Tensors{a.ct[0] * (1 - a.in[2]), a.ct[0] * a.in[2],
                                                   a.needs[2] ? a.ct[0] * (a.in[1] - a.in[0]) : Tensor()};
                                  },
                                  7, 0},
                  .promote = kPromoteToFloat,
                  .inputs = {{"a", kFloats}, {"b", kFloats}, {"weight", kFloats}}});
  return def;
}

}  // namespace

std::vector<const OpDef*> arithmetic_ops() {
  return {&add_op(),   &subtract_op(), &multiply_op(),  &divide_op(),  &floor_divide_op(), &remainder_op(),
          &fmod_op(),  &power_op(),    &maximum_op(),   &minimum_op(), &atan2_op(),        &logaddexp_op(),
          &hypot_op(), &copysign_op(), &nextafter_op(), &where_op(),   &clamp_op(),        &lerp_op()};
}

}  // namespace ops

using ops::call1;

Tensor add(Tensor a, Tensor b) { return call1(ops::add_op(), {std::move(a), std::move(b)}); }
Tensor subtract(Tensor a, Tensor b) { return call1(ops::subtract_op(), {std::move(a), std::move(b)}); }
Tensor multiply(Tensor a, Tensor b) { return call1(ops::multiply_op(), {std::move(a), std::move(b)}); }
Tensor divide(Tensor a, Tensor b) { return call1(ops::divide_op(), {std::move(a), std::move(b)}); }
Tensor floor_divide(Tensor a, Tensor b) { return call1(ops::floor_divide_op(), {std::move(a), std::move(b)}); }
Tensor remainder(Tensor a, Tensor b) { return call1(ops::remainder_op(), {std::move(a), std::move(b)}); }
Tensor fmod(Tensor a, Tensor b) { return call1(ops::fmod_op(), {std::move(a), std::move(b)}); }
Tensor power(Tensor a, Tensor b) { return call1(ops::power_op(), {std::move(a), std::move(b)}); }
Tensor maximum(Tensor a, Tensor b) { return call1(ops::maximum_op(), {std::move(a), std::move(b)}); }
Tensor minimum(Tensor a, Tensor b) { return call1(ops::minimum_op(), {std::move(a), std::move(b)}); }
Tensor atan2(Tensor y, Tensor x) { return call1(ops::atan2_op(), {std::move(y), std::move(x)}); }
Tensor logaddexp(Tensor a, Tensor b) { return call1(ops::logaddexp_op(), {std::move(a), std::move(b)}); }
Tensor hypot(Tensor a, Tensor b) { return call1(ops::hypot_op(), {std::move(a), std::move(b)}); }
Tensor copysign(Tensor a, Tensor b) { return call1(ops::copysign_op(), {std::move(a), std::move(b)}); }
Tensor nextafter(Tensor a, Tensor b) { return call1(ops::nextafter_op(), {std::move(a), std::move(b)}); }
Tensor where(Tensor condition, Tensor a, Tensor b) {
  return call1(ops::where_op(), {std::move(condition), std::move(a), std::move(b)});
}
Tensor clamp(Tensor x, Tensor low, Tensor high) {
  return call1(ops::clamp_op(), {std::move(x), std::move(low), std::move(high)});
}
Tensor lerp(Tensor a, Tensor b, Tensor weight) {
  return call1(ops::lerp_op(), {std::move(a), std::move(b), std::move(weight)});
}

}  // namespace tenon
