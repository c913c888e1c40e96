// Comparison, logic and bits.
// To add an op: a definition, a line in logic_ops(), a function at the end, its declaration in elementwise.h.
#include "tenon/ops/elementwise_def.h"
#include "tenon/tensor/number.h"

namespace tenon {
namespace ops {
namespace {

Scalar truth(const Scalar& x) {
  return x.dtype() == DType::Bool ? x : apply_op(ScalarOp::Ne, std::array{x, Scalar(0)});
}

const OpDef& less_op() {
  static const OpDef def = binary_def(
      {.name = "less",
       .doc = "a < b.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Lt, std::array{x[0], x[1]}); },
       .gradient = NoGradient{kBoolResult},
       .dtypes = kCompute,
       .promote = kPromoteAll,
       .gives_bool = true});
  return def;
}

const OpDef& less_equal_op() {
  static const OpDef def = binary_def(
      {.name = "less_equal",
       .doc = "a <= b.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Le, std::array{x[0], x[1]}); },
       .gradient = NoGradient{kBoolResult},
       .dtypes = kCompute,
       .promote = kPromoteAll,
       .gives_bool = true});
  return def;
}

const OpDef& greater_op() {
  static const OpDef def = binary_def(
      {.name = "greater",
       .doc = "a > b.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Gt, std::array{x[0], x[1]}); },
       .gradient = NoGradient{kBoolResult},
       .dtypes = kCompute,
       .promote = kPromoteAll,
       .gives_bool = true});
  return def;
}

const OpDef& greater_equal_op() {
  static const OpDef def = binary_def(
      {.name = "greater_equal",
       .doc = "a >= b.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Ge, std::array{x[0], x[1]}); },
       .gradient = NoGradient{kBoolResult},
       .dtypes = kCompute,
       .promote = kPromoteAll,
       .gives_bool = true});
  return def;
}

const OpDef& equal_op() {
  static const OpDef def = binary_def(
      {.name = "equal",
       .doc = "a == b.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Eq, std::array{x[0], x[1]}); },
       .gradient = NoGradient{kBoolResult},
       .dtypes = kCompute,
       .promote = kPromoteAll,
       .gives_bool = true});
  return def;
}

const OpDef& not_equal_op() {
  static const OpDef def = binary_def(
      {.name = "not_equal",
       .doc = "a != b.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Ne, std::array{x[0], x[1]}); },
       .gradient = NoGradient{kBoolResult},
       .dtypes = kCompute,
       .promote = kPromoteAll,
       .gives_bool = true});
  return def;
}

const OpDef& logical_and_op() {
  static const OpDef def = binary_def(
      {.name = "logical_and",
       .doc = "Whether both are not 0.",
       .expression = [](Scalars x,
                        const ir::Attrs&) { return apply_op(ScalarOp::And, std::array{truth(x[0]), truth(x[1])}); },
       .gradient = NoGradient{kBoolResult},
       .dtypes = kCompute,
       .promote = kNoPromotion,
       .gives_bool = true});
  return def;
}

const OpDef& logical_or_op() {
  static const OpDef def = binary_def(
      {.name = "logical_or",
       .doc = "Whether either is not 0.",
       .expression = [](Scalars x,
                        const ir::Attrs&) { return apply_op(ScalarOp::Or, std::array{truth(x[0]), truth(x[1])}); },
       .gradient = NoGradient{kBoolResult},
       .dtypes = kCompute,
       .promote = kNoPromotion,
       .gives_bool = true});
  return def;
}

const OpDef& logical_xor_op() {
  static const OpDef def = binary_def(
      {.name = "logical_xor",
       .doc = "Whether exactly one is not 0.",
       .expression = [](Scalars x,
                        const ir::Attrs&) { return apply_op(ScalarOp::Xor, std::array{truth(x[0]), truth(x[1])}); },
       .gradient = NoGradient{kBoolResult},
       .dtypes = kCompute,
       .promote = kNoPromotion,
       .gives_bool = true});
  return def;
}

const OpDef& bitwise_and_op() {
  static const OpDef def = binary_def(
      {.name = "bitwise_and",
       .doc = "a & b.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::And, std::array{x[0], x[1]}); },
       .gradient = NoGradient{kIntegersOnly},
       .dtypes = kInts | kBool,
       .promote = kPromoteAll,
       .gives_bool = false});
  return def;
}

const OpDef& bitwise_or_op() {
  static const OpDef def = binary_def(
      {.name = "bitwise_or",
       .doc = "a | b.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Or, std::array{x[0], x[1]}); },
       .gradient = NoGradient{kIntegersOnly},
       .dtypes = kInts | kBool,
       .promote = kPromoteAll,
       .gives_bool = false});
  return def;
}

const OpDef& bitwise_xor_op() {
  static const OpDef def = binary_def(
      {.name = "bitwise_xor",
       .doc = "a ^ b.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Xor, std::array{x[0], x[1]}); },
       .gradient = NoGradient{kIntegersOnly},
       .dtypes = kInts | kBool,
       .promote = kPromoteAll,
       .gives_bool = false});
  return def;
}

const OpDef& left_shift_op() {
  static const OpDef def = binary_def(
      {.name = "left_shift",
       .doc = "a * 2^b; shifts by the width or more give 0.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Shl, std::array{x[0], x[1]}); },
       .gradient = NoGradient{kIntegersOnly},
       .dtypes = kInts,
       .promote = kPromoteAll,
       .gives_bool = false,
       .low = 0,
       .high = 9});
  return def;
}

const OpDef& right_shift_op() {
  static const OpDef def = binary_def(
      {.name = "right_shift",
       .doc = "a / 2^b rounded towards minus infinity.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Shr, std::array{x[0], x[1]}); },
       .gradient = NoGradient{kIntegersOnly},
       .dtypes = kInts,
       .promote = kPromoteAll,
       .gives_bool = false,
       .low = 0,
       .high = 9});
  return def;
}

const OpDef& logical_not_op() {
  static const OpDef def = unary_def(
      {.name = "logical_not",
       .doc = "Whether the element is 0.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Not, std::array{truth(x[0])}); },
       .gradient = NoGradient{kBoolResult},
       .dtypes = kCompute,
       .promote = kNoPromotion,
       .gives_bool = true});
  return def;
}

const OpDef& bitwise_not_op() {
  static const OpDef def =
      unary_def({.name = "bitwise_not",
                 .doc = "~x; for bool, not.",
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::Not, std::array{x[0]}); },
                 .gradient = NoGradient{kIntegersOnly},
                 .dtypes = kInts | kBool,
                 .promote = kNoPromotion,
                 .gives_bool = false});
  return def;
}

const OpDef& bit_count_op() {
  static const OpDef def = unary_def(
      {.name = "bit_count",
       .doc = "The number of one bits in the two's complement.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::PopCount, std::array{x[0]}); },
       .gradient = NoGradient{kIntegersOnly},
       .dtypes = kInts,
       .promote = kNoPromotion,
       .gives_bool = false});
  return def;
}

const OpDef& isnan_op() {
  static const OpDef def =
      unary_def({.name = "isnan",
                 .doc = "Whether the element is NaN.",
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::IsNan, std::array{x[0]}); },
                 .gradient = NoGradient{kBoolResult},
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .gives_bool = true});
  return def;
}

const OpDef& isinf_op() {
  static const OpDef def =
      unary_def({.name = "isinf",
                 .doc = "Whether the element is an infinity.",
                 .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::IsInf, std::array{x[0]}); },
                 .gradient = NoGradient{kBoolResult},
                 .dtypes = kFloats,
                 .promote = kPromoteToFloat,
                 .gives_bool = true});
  return def;
}

const OpDef& isfinite_op() {
  static const OpDef def = unary_def(
      {.name = "isfinite",
       .doc = "Whether the element is neither NaN nor an infinity.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::IsFinite, std::array{x[0]}); },
       .gradient = NoGradient{kBoolResult},
       .dtypes = kFloats,
       .promote = kPromoteToFloat,
       .gives_bool = true});
  return def;
}

const OpDef& signbit_op() {
  static const OpDef def = unary_def(
      {.name = "signbit",
       .doc = "Whether the sign bit is set, as in -0.0.",
       .expression = [](Scalars x, const ir::Attrs&) { return apply_op(ScalarOp::SignBit, std::array{x[0]}); },
       .gradient = NoGradient{kBoolResult},
       .dtypes = kFloats,
       .promote = kPromoteToFloat,
       .gives_bool = true});
  return def;
}

}  // namespace

std::vector<const OpDef*> logic_ops() {
  return {&less_op(),        &less_equal_op(),  &greater_op(),    &greater_equal_op(), &equal_op(),
          &not_equal_op(),   &logical_and_op(), &logical_or_op(), &logical_xor_op(),   &bitwise_and_op(),
          &bitwise_or_op(),  &bitwise_xor_op(), &left_shift_op(), &right_shift_op(),   &logical_not_op(),
          &bitwise_not_op(), &bit_count_op(),   &isnan_op(),      &isinf_op(),         &isfinite_op(),
          &signbit_op()};
}

}  // namespace ops

using ops::call1;

namespace {

// An integer from C++ compares as the number that it is, also beside a dtype that cannot hold it.
void hold_number(Tensor& x, Tensor& number) {
  if (!number.impl()->weak || number.dtype() != DType::I64 || x.impl()->weak || !is_integer(x.dtype())) return;
  if (!number.impl()->buffer || holds_integer(x.dtype(), number.item<int64_t>())) return;
  // What u64 does not hold is negative: its place among u64's numbers is the same in f64.
  const DType wide = x.dtype() == DType::U64 ? DType::F64 : DType::I64;
  x = cast(std::move(x), wide);
  number = cast(std::move(number), wide);
}

Tensor compared(const ops::OpDef& op, Tensor a, Tensor b) {
  if (a.defined() && b.defined() && (a.impl()->weak || b.impl()->weak)) {
    hold_number(a, b);
    hold_number(b, a);
  }
  return call1(op, {std::move(a), std::move(b)});
}

}  // namespace

Tensor less(Tensor a, Tensor b) { return compared(ops::less_op(), std::move(a), std::move(b)); }
Tensor less_equal(Tensor a, Tensor b) { return compared(ops::less_equal_op(), std::move(a), std::move(b)); }
Tensor greater(Tensor a, Tensor b) { return compared(ops::greater_op(), std::move(a), std::move(b)); }
Tensor greater_equal(Tensor a, Tensor b) { return compared(ops::greater_equal_op(), std::move(a), std::move(b)); }
Tensor equal(Tensor a, Tensor b) { return compared(ops::equal_op(), std::move(a), std::move(b)); }
Tensor not_equal(Tensor a, Tensor b) { return compared(ops::not_equal_op(), std::move(a), std::move(b)); }
Tensor logical_and(Tensor a, Tensor b) { return call1(ops::logical_and_op(), {std::move(a), std::move(b)}); }
Tensor logical_or(Tensor a, Tensor b) { return call1(ops::logical_or_op(), {std::move(a), std::move(b)}); }
Tensor logical_xor(Tensor a, Tensor b) { return call1(ops::logical_xor_op(), {std::move(a), std::move(b)}); }
Tensor bitwise_and(Tensor a, Tensor b) { return call1(ops::bitwise_and_op(), {std::move(a), std::move(b)}); }
Tensor bitwise_or(Tensor a, Tensor b) { return call1(ops::bitwise_or_op(), {std::move(a), std::move(b)}); }
Tensor bitwise_xor(Tensor a, Tensor b) { return call1(ops::bitwise_xor_op(), {std::move(a), std::move(b)}); }
Tensor left_shift(Tensor a, Tensor b) { return call1(ops::left_shift_op(), {std::move(a), std::move(b)}); }
Tensor right_shift(Tensor a, Tensor b) { return call1(ops::right_shift_op(), {std::move(a), std::move(b)}); }
Tensor logical_not(Tensor x) { return call1(ops::logical_not_op(), {std::move(x)}); }
Tensor bitwise_not(Tensor x) { return call1(ops::bitwise_not_op(), {std::move(x)}); }
Tensor bit_count(Tensor x) { return call1(ops::bit_count_op(), {std::move(x)}); }
Tensor isnan(Tensor x) { return call1(ops::isnan_op(), {std::move(x)}); }
Tensor isinf(Tensor x) { return call1(ops::isinf_op(), {std::move(x)}); }
Tensor isfinite(Tensor x) { return call1(ops::isfinite_op(), {std::move(x)}); }
Tensor signbit(Tensor x) { return call1(ops::signbit_op(), {std::move(x)}); }

}  // namespace tenon
