// Scalar programs: what an elementwise op computes for one element, as data.
//
// An op's definition writes its meaning once, as a C++ expression over `Scalar`:
//
//   [](X x) { return x[0] / (1.0 + exp(-x[0])); }
//
// Running that builds a ScalarProgram: a straight list of typed instructions in SSA form. Every reader
// works from it: the reference evaluator interprets it for one element, the CPU device in blocks, the
// compiler lowers it to its loop IR. To add an instruction: one enumerator and one row in the table of
// scalar.cpp (name, arity, type rule), one line in each interpreter.
//
// Semantics, the same on every target:
//  - Integers wrap (two's complement). Div and Rem round towards minus infinity, as NumPy's // and %;
//    a zero divisor gives 0. Fmod and Tdiv truncate as in C. Shifts by the width or more give 0 (Shr of a
//    negative signed number gives -1).
//  - Floats are IEEE 754, round to nearest even, no contraction. Min and Max propagate NaN.
//    Comparisons with NaN are false, Ne is true. Round is to nearest, ties to even.
//  - f16 and bf16 are computed in f32 and rounded once at the end of the program.
//  - Cast float -> integer truncates and saturates, NaN gives 0. Cast to bool is x != 0.
//  - Integer casts wrap. Integer Pow wraps; a negative exponent gives the truncated real result, 0 for base 0.
//  - Bool: Add and Max are "or", Mul and Min are "and"; the other arithmetic is not defined on it.
//  - Evaluation order does not matter: there are no effects.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/tensor/dtype.h"

namespace tenon::ir {

enum class ScalarOp : uint8_t {
  Input,
  Const,
  // one operand, result of the same type
  Neg,
  Abs,
  Sign,
  Floor,
  Ceil,
  Round,
  Trunc,
  Sqrt,
  Cbrt,
  Exp,
  Exp2,
  Expm1,
  Log,
  Log2,
  Log10,
  Log1p,
  Sin,
  Cos,
  Tan,
  Asin,
  Acos,
  Atan,
  Sinh,
  Cosh,
  Tanh,
  Asinh,
  Acosh,
  Atanh,
  Erf,
  Erfc,
  Erfinv,
  Lgamma,
  Digamma,
  Not,
  PopCount,
  // one float operand, bool result
  IsNan,
  IsInf,
  IsFinite,
  SignBit,
  // two operands of one type, result of the same type
  Add,
  Sub,
  Mul,
  Div,
  Rem,
  Tdiv,
  Fmod,
  Pow,
  Atan2,
  Min,
  Max,
  And,
  Or,
  Xor,
  Shl,
  Shr,
  NextAfter,
  CopySign,
  // two operands of one type, bool result
  Lt,
  Le,
  Gt,
  Ge,
  Eq,
  Ne,
  // (bool, a, b)
  Select,
  // (a, b, c) of one type: a * b + c, rounded once
  Fma,
  // one operand, result of the instruction's own type
  Cast,
  Bitcast
};
inline constexpr int kScalarOpCount = static_cast<int>(ScalarOp::Bitcast) + 1;

// Kinds of operands that an instruction accepts, by bit.
enum ScalarKinds : uint8_t {
  kBoolKind = 1,
  kIntKind = 2,
  kFloatKind = 4,
  kNumberKinds = kIntKind | kFloatKind,
  kBitKinds = kBoolKind | kIntKind,
  kAllKinds = 7
};

struct ScalarOpInfo {
  ScalarOp op;
  std::string_view name;
  int arity;
  bool float_only;  // operands must be floats
  bool gives_bool;  // result is bool whatever the operands are
  uint8_t kinds;    // what the operands may be (of Select: the last two)
};
const ScalarOpInfo& info(ScalarOp op);

struct ScalarInstr {
  ScalarOp op = ScalarOp::Input;
  DType dtype = DType::F32;        // of the result; never f16, bf16 or a storage type except at Input, Cast, Bitcast
  int32_t args[3] = {-1, -1, -1};  // earlier instructions; for Input: args[0] is the input's number
  double real = 0;                 // Const of float dtype
  int64_t integer = 0;             // Const of integer or bool dtype (u64 by its bits)
  bool operator==(const ScalarInstr&) const = default;
};

struct ScalarProgram {
  std::vector<ScalarInstr> code;  // the last one is the result; Inputs come first, in order
  int inputs = 0;
  [[nodiscard]] DType result() const { return code.back().dtype; }
  [[nodiscard]] DType input(int i) const { return code[static_cast<size_t>(i)].dtype; }
  bool operator==(const ScalarProgram&) const = default;
};
// "%2: f32 = mul %0, %1" lines.
std::string to_string(const ScalarProgram& program);

class ScalarBuilder;

// A value inside a program being built. Operators and functions below append instructions. A C++ number
// takes the dtype of the operand beside it.
class Scalar {
 public:
  Scalar(double value);                                 // NOLINT(google-explicit-constructor)
  Scalar(int value) : real_(value), integer_(value) {}  // NOLINT(google-explicit-constructor)
  Scalar(ScalarBuilder* builder, int id, DType dtype) : builder_(builder), id_(id), dtype_(dtype) {}
  [[nodiscard]] bool is_number() const { return builder_ == nullptr; }
  [[nodiscard]] DType dtype() const { return dtype_; }
  [[nodiscard]] int id() const { return id_; }
  [[nodiscard]] ScalarBuilder* builder() const { return builder_; }
  [[nodiscard]] double real() const { return real_; }
  [[nodiscard]] int64_t integer() const { return integer_; }

 private:
  ScalarBuilder* builder_ = nullptr;
  int id_ = -1;
  DType dtype_ = DType::F64;
  double real_ = 0;
  int64_t integer_ = 0;
};

class ScalarBuilder {
 public:
  // f16 and bf16 inputs are widened to f32 at once; storage types to f32 (floats) or i8/u8 (integers).
  Scalar input(DType dtype);
  // Floats take `real`, integers and bool take `integer` (wrapped to the width).
  Scalar constant(DType dtype, double real, int64_t integer);
  // A number as a constant of `dtype`. DTypeError for a fraction as an integer.
  Scalar constant(DType dtype, const Scalar& number);
  // Checks types; numbers among the operands take the others' dtype. DTypeError if they do not fit together.
  // An instruction that is there already is not appended a second time.
  Scalar emit(ScalarOp op, std::span<const Scalar> args);
  // Converts, or with Bitcast reads the same bits as another dtype of the same width. A cast to f16, bf16 or a storage
  // type rounds to it and goes on in the wider type.
  Scalar cast(const Scalar& x, DType to, ScalarOp how = ScalarOp::Cast);
  // Closes the program: the result is converted to `dtype`, inputs are put first, what the result does not need is
  // left out. A number as result is a constant. The builder can go on afterwards.
  [[nodiscard]] ScalarProgram finish(const Scalar& result, DType dtype) const;

 private:
  Scalar append(const ScalarInstr& instr);
  Scalar widened(const Scalar& x);
  std::vector<ScalarInstr> code_;  // in the order of appending, inputs anywhere
  int inputs_ = 0;
};

// Appends `op` to the program that the operands belong to; ValueError if all of them are numbers.
Scalar apply_op(ScalarOp op, std::span<const Scalar> args);

inline Scalar operator+(const Scalar& a, const Scalar& b) { return apply_op(ScalarOp::Add, std::array{a, b}); }
inline Scalar operator-(const Scalar& a, const Scalar& b) { return apply_op(ScalarOp::Sub, std::array{a, b}); }
inline Scalar operator*(const Scalar& a, const Scalar& b) { return apply_op(ScalarOp::Mul, std::array{a, b}); }
inline Scalar operator/(const Scalar& a, const Scalar& b) { return apply_op(ScalarOp::Div, std::array{a, b}); }
inline Scalar operator-(const Scalar& a) { return apply_op(ScalarOp::Neg, std::array{a}); }
inline Scalar operator<(const Scalar& a, const Scalar& b) { return apply_op(ScalarOp::Lt, std::array{a, b}); }
inline Scalar operator<=(const Scalar& a, const Scalar& b) { return apply_op(ScalarOp::Le, std::array{a, b}); }
inline Scalar operator>(const Scalar& a, const Scalar& b) { return apply_op(ScalarOp::Gt, std::array{a, b}); }
inline Scalar operator>=(const Scalar& a, const Scalar& b) { return apply_op(ScalarOp::Ge, std::array{a, b}); }
inline Scalar select(const Scalar& c, const Scalar& a, const Scalar& b) {
  return apply_op(ScalarOp::Select, std::array{c, a, b});
}

}  // namespace tenon::ir
