#include "tenon/ir/scalar.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <utility>

#include "tenon/base/error.h"

namespace tenon::ir {
namespace {

using enum ScalarOp;

// name, arity, floats only, gives bool, kinds of operands; in the order of the enumeration.
constexpr ScalarOpInfo kTable[] = {
    {Input, "input", 0, false, false, kAllKinds},
    {Const, "const", 0, false, false, kAllKinds},
    {Neg, "neg", 1, false, false, kNumberKinds},
    {Abs, "abs", 1, false, false, kAllKinds},
    {Sign, "sign", 1, false, false, kNumberKinds},
    {Floor, "floor", 1, false, false, kAllKinds},
    {Ceil, "ceil", 1, false, false, kAllKinds},
    {Round, "round", 1, false, false, kAllKinds},
    {Trunc, "trunc", 1, false, false, kAllKinds},
    {Sqrt, "sqrt", 1, true, false, kFloatKind},
    {Cbrt, "cbrt", 1, true, false, kFloatKind},
    {Exp, "exp", 1, true, false, kFloatKind},
    {Exp2, "exp2", 1, true, false, kFloatKind},
    {Expm1, "expm1", 1, true, false, kFloatKind},
    {Log, "log", 1, true, false, kFloatKind},
    {Log2, "log2", 1, true, false, kFloatKind},
    {Log10, "log10", 1, true, false, kFloatKind},
    {Log1p, "log1p", 1, true, false, kFloatKind},
    {Sin, "sin", 1, true, false, kFloatKind},
    {Cos, "cos", 1, true, false, kFloatKind},
    {Tan, "tan", 1, true, false, kFloatKind},
    {Asin, "asin", 1, true, false, kFloatKind},
    {Acos, "acos", 1, true, false, kFloatKind},
    {Atan, "atan", 1, true, false, kFloatKind},
    {Sinh, "sinh", 1, true, false, kFloatKind},
    {Cosh, "cosh", 1, true, false, kFloatKind},
    {Tanh, "tanh", 1, true, false, kFloatKind},
    {Asinh, "asinh", 1, true, false, kFloatKind},
    {Acosh, "acosh", 1, true, false, kFloatKind},
    {Atanh, "atanh", 1, true, false, kFloatKind},
    {Erf, "erf", 1, true, false, kFloatKind},
    {Erfc, "erfc", 1, true, false, kFloatKind},
    {Erfinv, "erfinv", 1, true, false, kFloatKind},
    {Lgamma, "lgamma", 1, true, false, kFloatKind},
    {Digamma, "digamma", 1, true, false, kFloatKind},
    {Not, "not", 1, false, false, kBitKinds},
    {PopCount, "popcount", 1, false, false, kIntKind},
    {IsNan, "isnan", 1, true, true, kFloatKind},
    {IsInf, "isinf", 1, true, true, kFloatKind},
    {IsFinite, "isfinite", 1, true, true, kFloatKind},
    {SignBit, "signbit", 1, true, true, kFloatKind},
    {Add, "add", 2, false, false, kAllKinds},
    {Sub, "sub", 2, false, false, kNumberKinds},
    {Mul, "mul", 2, false, false, kAllKinds},
    {Div, "div", 2, false, false, kNumberKinds},
    {Rem, "rem", 2, false, false, kNumberKinds},
    {Tdiv, "tdiv", 2, false, false, kNumberKinds},
    {Fmod, "fmod", 2, false, false, kNumberKinds},
    {Pow, "pow", 2, false, false, kNumberKinds},
    {Atan2, "atan2", 2, true, false, kFloatKind},
    {Min, "min", 2, false, false, kAllKinds},
    {Max, "max", 2, false, false, kAllKinds},
    {And, "and", 2, false, false, kBitKinds},
    {Or, "or", 2, false, false, kBitKinds},
    {Xor, "xor", 2, false, false, kBitKinds},
    {Shl, "shl", 2, false, false, kIntKind},
    {Shr, "shr", 2, false, false, kIntKind},
    {NextAfter, "nextafter", 2, true, false, kFloatKind},
    {CopySign, "copysign", 2, true, false, kFloatKind},
    {Lt, "lt", 2, false, true, kAllKinds},
    {Le, "le", 2, false, true, kAllKinds},
    {Gt, "gt", 2, false, true, kAllKinds},
    {Ge, "ge", 2, false, true, kAllKinds},
    {Eq, "eq", 2, false, true, kAllKinds},
    {Ne, "ne", 2, false, true, kAllKinds},
    {Select, "select", 3, false, false, kAllKinds},
    {Fma, "fma", 3, true, false, kFloatKind},
    {Cast, "cast", 1, false, false, kAllKinds},
    {Bitcast, "bitcast", 1, false, false, kAllKinds},
};
static_assert(std::size(kTable) == kScalarOpCount);
static_assert([] {
  for (int i = 0; i < kScalarOpCount; ++i) {
    if (static_cast<int>(kTable[i].op) != i) return false;
  }
  return true;
}());

// The type in which a value of this dtype is computed.
DType computed(DType dtype) {
  switch (dtype) {
    case DType::F16:
    case DType::BF16:
    case DType::F8E4M3:
    case DType::F8E5M2:
      return DType::F32;
    case DType::I4:
    case DType::I2:
      return DType::I8;
    case DType::U4:
      return DType::U8;
    default:
      return dtype;
  }
}

uint8_t kind_bit(DType dtype) {
  switch (info(dtype).kind) {
    case DTypeKind::Bool:
      return kBoolKind;
    case DTypeKind::Float:
      return kFloatKind;
    default:
      return kIntKind;
  }
}

std::string kinds_text(uint8_t kinds) {
  switch (kinds) {
    case kFloatKind:
      return "floats";
    case kIntKind:
      return "integers";
    case kBitKinds:
      return "integers or bool";
    default:
      return "numbers";
  }
}

bool same_bits(const ScalarInstr& a, const ScalarInstr& b) {
  return a.op == b.op && a.dtype == b.dtype && std::equal(a.args, a.args + 3, b.args) &&
         std::bit_cast<uint64_t>(a.real) == std::bit_cast<uint64_t>(b.real) && a.integer == b.integer;
}

// The value that an integer of this dtype keeps of `value`.
int64_t wrap(DType dtype, int64_t value) {
  const DTypeInfo& type = info(dtype);
  if (type.kind == DTypeKind::Bool) return value != 0;
  if (type.bits >= 64) return value;
  const int unused = 64 - type.bits;
  const uint64_t shifted = static_cast<uint64_t>(value) << unused;
  return type.kind == DTypeKind::Signed ? static_cast<int64_t>(shifted) >> unused
                                        : static_cast<int64_t>(shifted >> unused);
}

[[noreturn]] void wrong_operands(const ScalarOpInfo& op, std::string expected, std::span<const Scalar> args) {
  std::string got;
  for (const Scalar& arg : args) {
    got += got.empty() ? "" : ", ";
    got += arg.is_number() ? fmt::format("the number {}", arg.real()) : std::string(name(arg.dtype()));
  }
  throw DTypeError({.where = std::string(op.name),
                    .problem = "operands of a scalar expression do not fit",
                    .expected = std::move(expected),
                    .got = got,
                    .hint = "convert one with cast(x, dtype)"});
}

// The one dtype of the operands from `first` on.
DType common_dtype(const ScalarOpInfo& op, std::span<const Scalar> args, size_t first) {
  const Scalar* typed = nullptr;
  for (const Scalar& arg : args.subspan(first)) {
    if (arg.is_number()) continue;
    if (typed != nullptr && typed->dtype() != arg.dtype()) wrong_operands(op, "operands of one dtype", args);
    typed = &arg;
  }
  if (typed == nullptr) wrong_operands(op, "at least one operand that is not a plain number", args);
  return typed->dtype();
}

}  // namespace

const ScalarOpInfo& info(ScalarOp op) { return kTable[static_cast<size_t>(op)]; }

Scalar::Scalar(double value) : real_(value), integer_(std::abs(value) < 9.2e18 ? static_cast<int64_t>(value) : 0) {}

std::string to_string(const ScalarProgram& program) {
  std::string text;
  for (size_t i = 0; i < program.code.size(); ++i) {
    const ScalarInstr& instr = program.code[i];
    const ScalarOpInfo& op = info(instr.op);
    text += fmt::format("%{}: {} = {}", i, name(instr.dtype), op.name);
    if (instr.op == ScalarOp::Input) text += fmt::format(" {}", instr.args[0]);
    if (instr.op == ScalarOp::Const) {
      switch (info(instr.dtype).kind) {
        case DTypeKind::Float:
          text += fmt::format(" {}", instr.real);
          break;
        case DTypeKind::Bool:
          text += instr.integer != 0 ? " true" : " false";
          break;
        case DTypeKind::Unsigned:
          text += fmt::format(" {}", static_cast<uint64_t>(instr.integer));
          break;
        case DTypeKind::Signed:
          text += fmt::format(" {}", instr.integer);
          break;
      }
    }
    for (int a = 0; a < op.arity; ++a) text += fmt::format("{}%{}", a == 0 ? " " : ", ", instr.args[a]);
    text += '\n';
  }
  return text;
}

Scalar ScalarBuilder::append(const ScalarInstr& instr) {
  for (size_t i = 0; i < code_.size() && instr.op != ScalarOp::Input; ++i) {
    if (same_bits(code_[i], instr)) return {this, static_cast<int>(i), instr.dtype};
  }
  code_.push_back(instr);
  return {this, static_cast<int>(code_.size()) - 1, instr.dtype};
}

Scalar ScalarBuilder::widened(const Scalar& x) {
  const DType to = computed(x.dtype());
  return to == x.dtype() ? x : append({.op = ScalarOp::Cast, .dtype = to, .args = {x.id(), -1, -1}});
}

Scalar ScalarBuilder::input(DType dtype) {
  return widened(append({.op = ScalarOp::Input, .dtype = dtype, .args = {inputs_++, -1, -1}}));
}

Scalar ScalarBuilder::constant(DType dtype, double real, int64_t integer) {
  const DType type = computed(dtype);
  ScalarInstr instr{.op = ScalarOp::Const, .dtype = type};
  if (is_float(type)) {
    instr.real = type == DType::F32 ? static_cast<double>(static_cast<float>(real)) : real;
  } else {
    instr.integer = wrap(type, integer);
  }
  return append(instr);
}

Scalar ScalarBuilder::constant(DType dtype, const Scalar& number) {
  if (!is_float(dtype) && number.real() != static_cast<double>(number.integer())) {
    throw DTypeError({.where = "scalar expression",
                      .problem = "a number does not fit the operand beside it",
                      .expected = fmt::format("a whole number for {}", name(dtype)),
                      .got = fmt::format("{}", number.real()),
                      .hint = "cast(x, f32) before"});
  }
  return constant(dtype, number.real(), number.integer());
}

Scalar ScalarBuilder::emit(ScalarOp op, std::span<const Scalar> args) {
  const ScalarOpInfo& row = info(op);
  if (static_cast<size_t>(row.arity) != args.size() || row.arity == 0 || op == ScalarOp::Cast ||
      op == ScalarOp::Bitcast) {
    throw InternalError(fmt::format("scalar instruction {} emitted with {} operands", row.name, args.size()));
  }
  for (const Scalar& arg : args) {
    if (!arg.is_number() && arg.builder() != this) {
      throw InternalError(fmt::format("scalar instruction {}: an operand of another program", row.name));
    }
  }
  const size_t first = op == ScalarOp::Select ? 1 : 0;
  if (first == 1 && (args[0].is_number() || args[0].dtype() != DType::Bool)) {
    wrong_operands(row, "a bool as the condition", args);
  }
  const DType type = common_dtype(row, args, first);
  if ((kind_bit(type) & row.kinds) == 0) wrong_operands(row, kinds_text(row.kinds), args);
  const bool rounding = op == ScalarOp::Floor || op == ScalarOp::Ceil || op == ScalarOp::Round || op == ScalarOp::Trunc;
  const bool signless = info(type).kind == DTypeKind::Unsigned || type == DType::Bool;
  if ((rounding && !is_float(type)) || (op == ScalarOp::Abs && signless)) return args[0];
  ScalarInstr instr{.op = op, .dtype = row.gives_bool ? DType::Bool : type};
  for (size_t i = 0; i < args.size(); ++i) {
    instr.args[i] = args[i].is_number() ? constant(type, args[i]).id() : args[i].id();
  }
  return append(instr);
}

Scalar ScalarBuilder::cast(const Scalar& x, DType to, ScalarOp how) {
  if (x.is_number()) return constant(to, x.real(), x.integer());
  int32_t from = x.id();
  if (how == ScalarOp::Bitcast) {
    // A widened value still has its narrow form one instruction before.
    const ScalarInstr& instr = code_[static_cast<size_t>(from)];
    if (instr.op == ScalarOp::Cast) {
      const DType narrow = code_[static_cast<size_t>(instr.args[0])].dtype;
      if (computed(narrow) != narrow) from = instr.args[0];
    }
    const DType have = code_[static_cast<size_t>(from)].dtype;
    if (info(have).bits != info(to).bits) {
      throw DTypeError({.where = "bitcast",
                        .problem = "dtypes of different width",
                        .expected = fmt::format("a dtype of {} bits", info(have).bits),
                        .got = fmt::format("{} ({} bits)", name(to), info(to).bits),
                        .hint = {}});
    }
    if (have == to) return x;
    return widened(append({.op = how, .dtype = to, .args = {from, -1, -1}}));
  }
  if (x.dtype() == to) return x;
  // An integer becomes a narrow float by way of f64, which holds all but the longest exactly.
  if (is_float(to) && computed(to) != to && !is_float(x.dtype())) return cast(cast(x, DType::F64), to);
  return widened(append({.op = ScalarOp::Cast, .dtype = to, .args = {from, -1, -1}}));
}

ScalarProgram ScalarBuilder::finish(const Scalar& result, DType dtype) const {
  ScalarBuilder copy = *this;
  const Scalar last =
      result.is_number() ? copy.constant(computed(dtype), result) : Scalar(&copy, result.id(), result.dtype());
  const auto narrow_form = [&](const Scalar& x) {
    const ScalarInstr& instr = copy.code_[static_cast<size_t>(x.id())];
    const bool widens = instr.op == ScalarOp::Cast && copy.code_[static_cast<size_t>(instr.args[0])].dtype == dtype;
    return widens ? instr.args[0] : -1;
  };
  int32_t end = computed(dtype) == dtype ? -1 : narrow_form(last);
  if (end < 0) {
    const Scalar converted = copy.cast(last, dtype);
    end = computed(dtype) == dtype ? converted.id() : narrow_form(converted);
  }

  // Inputs keep their numbers, used or not.
  ScalarProgram program;
  program.inputs = copy.inputs_;
  std::vector<int32_t> place(copy.code_.size(), -1);
  for (size_t i = 0; i < copy.code_.size(); ++i) {
    if (copy.code_[i].op != ScalarOp::Input) continue;
    place[i] = static_cast<int32_t>(program.code.size());
    program.code.push_back(copy.code_[i]);
  }
  // In the order of a walk from the result, operands from left to right: C++ leaves it to the compiler in which order
  // the operands of an expression are written down, and a program must not depend on it.
  const auto put = [&](const auto& self, int32_t i) -> int32_t {
    int32_t& at = place[static_cast<size_t>(i)];
    if (at >= 0) return at;
    ScalarInstr instr = copy.code_[static_cast<size_t>(i)];
    for (int a = 0; a < info(instr.op).arity; ++a) instr.args[a] = self(self, instr.args[a]);
    at = static_cast<int32_t>(program.code.size());
    program.code.push_back(instr);
    return at;
  };
  const int32_t at = put(put, end);
  // The result is the last instruction; an input that is not the last one is repeated by a Cast to its own dtype.
  if (static_cast<size_t>(at) + 1 != program.code.size()) {
    program.code.push_back({.op = ScalarOp::Cast, .dtype = dtype, .args = {at, -1, -1}});
  }
  return program;
}

Scalar apply_op(ScalarOp op, std::span<const Scalar> args) {
  for (const Scalar& arg : args) {
    if (!arg.is_number()) return arg.builder()->emit(op, args);
  }
  throw ValueError({.where = std::string(info(op).name),
                    .problem = "a scalar expression of plain numbers belongs to no program",
                    .expected = "at least one operand that comes from an input",
                    .got = "numbers only",
                    .hint = "compute it in C++ and use the result"});
}

}  // namespace tenon::ir
