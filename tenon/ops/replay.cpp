#include "tenon/ops/replay.h"

#include <array>

#include "tenon/base/error.h"
#include "tenon/ops/elementwise.h"

namespace tenon::ops {
namespace {

using ir::ScalarOp;
using Unary = Tensor (*)(Tensor);
using Binary = Tensor (*)(Tensor, Tensor);

struct Row {
  ScalarOp op;
  Unary unary;
  Binary binary;
};

// Which op does what one scalar instruction does.
constexpr std::array kRows{
    Row{ScalarOp::Neg, negative, nullptr},
    Row{ScalarOp::Abs, tenon::abs, nullptr},
    Row{ScalarOp::Sign, sign, nullptr},
    Row{ScalarOp::Floor, tenon::floor, nullptr},
    Row{ScalarOp::Ceil, tenon::ceil, nullptr},
    Row{ScalarOp::Round, tenon::round, nullptr},
    Row{ScalarOp::Trunc, tenon::trunc, nullptr},
    Row{ScalarOp::Sqrt, tenon::sqrt, nullptr},
    Row{ScalarOp::Cbrt, tenon::cbrt, nullptr},
    Row{ScalarOp::Exp, tenon::exp, nullptr},
    Row{ScalarOp::Exp2, tenon::exp2, nullptr},
    Row{ScalarOp::Expm1, tenon::expm1, nullptr},
    Row{ScalarOp::Log, tenon::log, nullptr},
    Row{ScalarOp::Log2, tenon::log2, nullptr},
    Row{ScalarOp::Log10, tenon::log10, nullptr},
    Row{ScalarOp::Log1p, tenon::log1p, nullptr},
    Row{ScalarOp::Sin, tenon::sin, nullptr},
    Row{ScalarOp::Cos, tenon::cos, nullptr},
    Row{ScalarOp::Tan, tenon::tan, nullptr},
    Row{ScalarOp::Asin, tenon::asin, nullptr},
    Row{ScalarOp::Acos, tenon::acos, nullptr},
    Row{ScalarOp::Atan, tenon::atan, nullptr},
    Row{ScalarOp::Sinh, tenon::sinh, nullptr},
    Row{ScalarOp::Cosh, tenon::cosh, nullptr},
    Row{ScalarOp::Tanh, tenon::tanh, nullptr},
    Row{ScalarOp::Asinh, tenon::asinh, nullptr},
    Row{ScalarOp::Acosh, tenon::acosh, nullptr},
    Row{ScalarOp::Atanh, tenon::atanh, nullptr},
    Row{ScalarOp::Erf, tenon::erf, nullptr},
    Row{ScalarOp::Erfc, tenon::erfc, nullptr},
    Row{ScalarOp::Erfinv, erfinv, nullptr},
    Row{ScalarOp::Lgamma, tenon::lgamma, nullptr},
    Row{ScalarOp::Digamma, digamma, nullptr},
    Row{ScalarOp::Not, bitwise_not, nullptr},
    Row{ScalarOp::PopCount, bit_count, nullptr},
    Row{ScalarOp::IsNan, tenon::isnan, nullptr},
    Row{ScalarOp::IsInf, tenon::isinf, nullptr},
    Row{ScalarOp::IsFinite, tenon::isfinite, nullptr},
    Row{ScalarOp::SignBit, tenon::signbit, nullptr},
    Row{ScalarOp::Add, nullptr, add},
    Row{ScalarOp::Sub, nullptr, subtract},
    Row{ScalarOp::Mul, nullptr, multiply},
    Row{ScalarOp::Div, nullptr, divide},
    Row{ScalarOp::Rem, nullptr, tenon::remainder},
    Row{ScalarOp::Fmod, nullptr, tenon::fmod},
    Row{ScalarOp::Pow, nullptr, power},
    Row{ScalarOp::Atan2, nullptr, tenon::atan2},
    Row{ScalarOp::Min, nullptr, minimum},
    Row{ScalarOp::Max, nullptr, maximum},
    Row{ScalarOp::And, nullptr, bitwise_and},
    Row{ScalarOp::Or, nullptr, bitwise_or},
    Row{ScalarOp::Xor, nullptr, bitwise_xor},
    Row{ScalarOp::Shl, nullptr, left_shift},
    Row{ScalarOp::Shr, nullptr, right_shift},
    Row{ScalarOp::NextAfter, nullptr, tenon::nextafter},
    Row{ScalarOp::CopySign, nullptr, tenon::copysign},
    Row{ScalarOp::Lt, nullptr, less},
    Row{ScalarOp::Le, nullptr, less_equal},
    Row{ScalarOp::Gt, nullptr, greater},
    Row{ScalarOp::Ge, nullptr, greater_equal},
    Row{ScalarOp::Eq, nullptr, equal},
    Row{ScalarOp::Ne, nullptr, not_equal},
};

const Row& row_of(ScalarOp op) {
  for (const auto& row : kRows) {
    if (row.op == op) return row;
  }
  throw InternalError("no op does what the scalar instruction '" + std::string(ir::info(op).name) + "' does");
}

}  // namespace

Tensor replay(const ir::ScalarProgram& program, std::span<const Tensor> in) {
  Tensors values;
  values.reserve(program.code.size());
  for (const auto& instr : program.code) {
    const auto arg = [&](int k) -> const Tensor& { return values[static_cast<size_t>(instr.args[k])]; };
    switch (instr.op) {
      case ScalarOp::Input:
        values.push_back(in[static_cast<size_t>(instr.args[0])]);
        break;
      case ScalarOp::Const:
        values.push_back(is_float(instr.dtype) ? Tensor(instr.real) : Tensor(instr.integer));
        break;
      case ScalarOp::Cast:
        values.push_back(cast(arg(0), instr.dtype));
        break;
      case ScalarOp::Select:
        values.push_back(where(arg(0), arg(1), arg(2)));
        break;
      case ScalarOp::Fma:
        values.push_back(arg(0) * arg(1) + arg(2));
        break;
      default: {
        const Row& row = row_of(instr.op);
        values.push_back(row.unary ? row.unary(arg(0)) : row.binary(arg(0), arg(1)));
      }
    }
  }
  return values.back();
}

}  // namespace tenon::ops
