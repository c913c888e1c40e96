#include "tenon/ir/scalar.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tenon/base/error.h"
#include "tests/support/error_text.h"

namespace tenon::ir {
namespace {

using testing_support::error_text;

TEST(Scalar, AnExpressionBecomesInstructions) {
  ScalarBuilder b;
  const Scalar x = b.input(DType::F32);
  const Scalar y = x / (1.0 + apply_op(ScalarOp::Exp, std::array{-x}));
  EXPECT_EQ(to_string(b.finish(y, DType::F32)),
            "%0: f32 = input 0\n"
            "%1: f32 = const 1\n"
            "%2: f32 = neg %0\n"
            "%3: f32 = exp %2\n"
            "%4: f32 = add %1, %3\n"
            "%5: f32 = div %0, %4\n");
}

TEST(Scalar, NarrowFloatsAreComputedInF32AndRoundedOnce) {
  ScalarBuilder b;
  const Scalar x = b.input(DType::F16);
  const Scalar y = b.input(DType::BF16);
  EXPECT_EQ(x.dtype(), DType::F32);
  EXPECT_EQ(to_string(b.finish(x + y * y, DType::F16)),
            "%0: f16 = input 0\n"
            "%1: bf16 = input 1\n"
            "%2: f32 = cast %0\n"
            "%3: f32 = cast %1\n"
            "%4: f32 = mul %3, %3\n"
            "%5: f32 = add %2, %4\n"
            "%6: f16 = cast %5\n");
}

TEST(Scalar, F64RoundsToANarrowFloatInOneStepAndIntegersGoByWayOfF64) {
  ScalarBuilder b;
  const Scalar x = b.input(DType::F64);
  EXPECT_EQ(to_string(b.finish(x, DType::BF16)), "%0: f64 = input 0\n%1: bf16 = cast %0\n");
  ScalarBuilder c;
  const Scalar n = c.input(DType::I64);
  EXPECT_EQ(to_string(c.finish(n, DType::F16)), "%0: i64 = input 0\n%1: f64 = cast %0\n%2: f16 = cast %1\n");
}

TEST(Scalar, TheIdentityOfANarrowTypeMovesBits) {
  for (DType type : {DType::F16, DType::BF16, DType::F8E4M3, DType::F8E5M2, DType::I4, DType::U4, DType::I2}) {
    ScalarBuilder b;
    const Scalar x = b.input(type);
    const ScalarProgram program = b.finish(x, type);
    EXPECT_EQ(program.code.size(), 1u) << to_string(program);
    EXPECT_EQ(program.result(), type);
  }
}

TEST(Scalar, EqualInstructionsAreSharedAndDeadOnesLeftOut) {
  ScalarBuilder b;
  const Scalar x = b.input(DType::F64);
  const Scalar unused = b.input(DType::I32);
  const Scalar dead = apply_op(ScalarOp::Sin, std::array{x});
  const Scalar y = (x + 1.0) * (x + 1.0);
  (void)dead;
  (void)unused;
  const ScalarProgram program = b.finish(y, DType::F64);
  EXPECT_EQ(program.inputs, 2);
  EXPECT_EQ(program.input(1), DType::I32);
  EXPECT_EQ(to_string(program),
            "%0: f64 = input 0\n%1: i32 = input 1\n%2: f64 = const 1\n%3: f64 = add %0, %2\n%4: f64 = mul %3, %3\n");
  // Zeros of different sign are different constants.
  EXPECT_NE(b.constant(DType::F64, 0.0, 0).id(), b.constant(DType::F64, -0.0, 0).id());
}

TEST(Scalar, TheResultIsTheLastInstructionEvenIfItIsAnEarlierInput) {
  ScalarBuilder b;
  const Scalar x = b.input(DType::I16);
  const Scalar y = b.input(DType::F32);
  (void)y;
  EXPECT_EQ(to_string(b.finish(x, DType::I16)), "%0: i16 = input 0\n%1: f32 = input 1\n%2: i16 = cast %0\n");
  EXPECT_EQ(to_string(b.finish(3, DType::I16)), "%0: i16 = input 0\n%1: f32 = input 1\n%2: i16 = const 3\n");
}

TEST(Scalar, NumbersTakeTheDtypeBesideThemAndWrapToItsWidth) {
  ScalarBuilder b;
  const Scalar x = b.input(DType::U8);
  EXPECT_EQ((x + 300).dtype(), DType::U8);
  EXPECT_EQ(to_string(b.finish(x + 300, DType::U8)), "%0: u8 = input 0\n%1: u8 = const 44\n%2: u8 = add %0, %1\n");
  const Scalar less = x < 3;
  EXPECT_EQ(less.dtype(), DType::Bool);
  EXPECT_EQ(select(less, x, 0).dtype(), DType::U8);
  const Scalar huge(std::numeric_limits<double>::infinity());
  EXPECT_EQ(huge.integer(), 0);
}

TEST(Scalar, BitcastSeesTheNarrowForm) {
  ScalarBuilder b;
  const Scalar x = b.input(DType::F16);
  EXPECT_EQ(to_string(b.finish(b.cast(x, DType::U16, ScalarOp::Bitcast), DType::U16)),
            "%0: f16 = input 0\n%1: u16 = bitcast %0\n");
  const Scalar back = b.cast(b.cast(x, DType::U16, ScalarOp::Bitcast), DType::F16, ScalarOp::Bitcast);
  EXPECT_EQ(back.dtype(), DType::F32);
}

TEST(Scalar, RoundingAnIntegerIsNothing) {
  ScalarBuilder b;
  const Scalar x = b.input(DType::I32);
  EXPECT_EQ(apply_op(ScalarOp::Floor, std::array{x}).id(), x.id());
  const Scalar u = b.input(DType::U32);
  EXPECT_EQ(apply_op(ScalarOp::Abs, std::array{u}).id(), u.id());
}

TEST(Scalar, MistakesAreTypedErrors) {
  ScalarBuilder b;
  const Scalar i = b.input(DType::I32);
  const Scalar f = b.input(DType::F32);
  const Scalar p = b.input(DType::Bool);
  EXPECT_EQ(error_text<DTypeError>([&] { (void)(i + f); }),
            "add: operands of a scalar expression do not fit; expected operands of one dtype, got i32, f32\n"
            "  try: convert one with cast(x, dtype)");
  EXPECT_EQ(error_text<DTypeError>([&] { (void)apply_op(ScalarOp::Exp, std::array{i}); }),
            "exp: operands of a scalar expression do not fit; expected floats, got i32\n"
            "  try: convert one with cast(x, dtype)");
  EXPECT_EQ(error_text<DTypeError>([&] { (void)(p - p); }),
            "sub: operands of a scalar expression do not fit; expected numbers, got bool, bool\n"
            "  try: convert one with cast(x, dtype)");
  EXPECT_EQ(error_text<DTypeError>([&] { (void)apply_op(ScalarOp::And, std::array{f, f}); }),
            "and: operands of a scalar expression do not fit; expected integers or bool, got f32, f32\n"
            "  try: convert one with cast(x, dtype)");
  EXPECT_EQ(error_text<DTypeError>([&] { (void)(i * 0.5); }),
            "scalar expression: a number does not fit the operand beside it; expected a whole number for i32, got 0.5\n"
            "  try: cast(x, f32) before");
  EXPECT_EQ(error_text<DTypeError>([&] { (void)select(i, f, f); }),
            "select: operands of a scalar expression do not fit; expected a bool as the condition, got i32, f32, f32\n"
            "  try: convert one with cast(x, dtype)");
  EXPECT_EQ(error_text<DTypeError>([&] { (void)b.cast(f, DType::I64, ScalarOp::Bitcast); }),
            "bitcast: dtypes of different width; expected a dtype of 32 bits, got i64 (64 bits)");
  EXPECT_EQ(error_text<ValueError>([&] { (void)apply_op(ScalarOp::Add, std::array{Scalar(1), Scalar(2)}); }),
            "add: a scalar expression of plain numbers belongs to no program; "
            "expected at least one operand that comes from an input, got numbers only\n"
            "  try: compute it in C++ and use the result");
  ScalarBuilder other;
  const Scalar foreign = other.input(DType::F32);
  EXPECT_THROW((void)(f + foreign), InternalError);
}

}  // namespace
}  // namespace tenon::ir
