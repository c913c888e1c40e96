#include "tenon/exec/reference.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numbers>

#include "tenon/base/error.h"
#include "tenon/tensor/element.h"

namespace tenon::exec {
namespace {

using ir::ScalarInstr;
using ir::ScalarOp;

// A scalar: `real` for float dtypes, `integer` for the rest (u64 by its bits).
struct Cell {
  double real = 0;
  int64_t integer = 0;
};

double digamma(double x) {
  if (x == 0) return std::copysign(std::numeric_limits<double>::infinity(), -x);
  if (x <= 0 && std::floor(x) == x) return std::numeric_limits<double>::quiet_NaN();
  if (x < 0) return digamma(1 - x) - std::numbers::pi / std::tan(std::numbers::pi * x);
  double shift = 0;
  for (; x < 12; x += 1) shift -= 1 / x;
  // Abramowitz and Stegun 6.3.18
  const double r = 1 / (x * x);
  return shift + std::log(x) - 0.5 / x -
         r * (1.0 / 12 - r * (1.0 / 120 - r * (1.0 / 252 - r * (1.0 / 240 - r * (1.0 / 132)))));
}

// Newton's method on erf from Winitzki's approximation.
double erfinv(double y) {
  if (std::isnan(y) || std::abs(y) > 1) return std::numeric_limits<double>::quiet_NaN();
  if (std::abs(y) == 1) return std::copysign(std::numeric_limits<double>::infinity(), y);
  if (y == 0) return y;
  constexpr double a = 0.147;
  const double l = std::log1p(-y * y), t = 2 / (std::numbers::pi * a) + l / 2;
  double x = std::copysign(std::sqrt(std::sqrt(t * t - l / a) - t), y);
  for (int i = 0; i < 4; ++i) {
    const double error =
        std::abs(y) > 0.5 ? std::copysign(1, y) * (std::erfc(std::abs(x)) - (1 - std::abs(y))) * -1 : std::erf(x) - y;
    const double step = error / (2 / std::sqrt(std::numbers::pi) * std::exp(-x * x));
    x -= step / (1 + x * step);
  }
  return x;
}

double unary_real(ScalarOp op, double x) {
  switch (op) {
    case ScalarOp::Neg:
      return -x;
    case ScalarOp::Abs:
      return std::abs(x);
    case ScalarOp::Sign:
      return x > 0 ? 1 : x < 0 ? -1 : x;
    case ScalarOp::Floor:
      return std::floor(x);
    case ScalarOp::Ceil:
      return std::ceil(x);
    case ScalarOp::Round:
      return std::nearbyint(x);
    case ScalarOp::Trunc:
      return std::trunc(x);
    case ScalarOp::Sqrt:
      return std::sqrt(x);
    case ScalarOp::Cbrt:
      return std::cbrt(x);
    case ScalarOp::Exp:
      return std::exp(x);
    case ScalarOp::Exp2:
      return std::exp2(x);
    case ScalarOp::Expm1:
      return std::expm1(x);
    case ScalarOp::Log:
      return std::log(x);
    case ScalarOp::Log2:
      return std::log2(x);
    case ScalarOp::Log10:
      return std::log10(x);
    case ScalarOp::Log1p:
      return std::log1p(x);
    case ScalarOp::Sin:
      return std::sin(x);
    case ScalarOp::Cos:
      return std::cos(x);
    case ScalarOp::Tan:
      return std::tan(x);
    case ScalarOp::Asin:
      return std::asin(x);
    case ScalarOp::Acos:
      return std::acos(x);
    case ScalarOp::Atan:
      return std::atan(x);
    case ScalarOp::Sinh:
      return std::sinh(x);
    case ScalarOp::Cosh:
      return std::cosh(x);
    case ScalarOp::Tanh:
      return std::tanh(x);
    case ScalarOp::Asinh:
      return std::asinh(x);
    case ScalarOp::Acosh:
      return std::acosh(x);
    case ScalarOp::Atanh:
      return std::atanh(x);
    case ScalarOp::Erf:
      return std::erf(x);
    case ScalarOp::Erfc:
      return std::erfc(x);
    case ScalarOp::Erfinv:
      return erfinv(x);
    case ScalarOp::Lgamma:
      return std::lgamma(x);
    case ScalarOp::Digamma:
      return digamma(x);
    default:
      throw InternalError("not an instruction of one real: " + std::string(ir::info(op).name));
  }
}

double binary_real(ScalarOp op, double a, double b, DType dtype) {
  switch (op) {
    case ScalarOp::Add:
      return a + b;
    case ScalarOp::Sub:
      return a - b;
    case ScalarOp::Mul:
      return a * b;
    case ScalarOp::Div:
      return a / b;
    case ScalarOp::Rem: {
      const double r = std::fmod(a, b);
      if (r == 0) return std::copysign(r, b);
      return (r < 0) != (b < 0) ? r + b : r;
    }
    case ScalarOp::Tdiv:
      return std::trunc(a / b);
    case ScalarOp::Fmod:
      return std::fmod(a, b);
    case ScalarOp::Pow:
      return std::pow(a, b);
    case ScalarOp::Atan2:
      return std::atan2(a, b);
    case ScalarOp::Min:
      return std::isnan(a) || std::isnan(b) ? std::numeric_limits<double>::quiet_NaN() : std::min(a, b);
    case ScalarOp::Max:
      return std::isnan(a) || std::isnan(b) ? std::numeric_limits<double>::quiet_NaN() : std::max(a, b);
    case ScalarOp::NextAfter:
      return dtype == DType::F32 ? std::nextafter(static_cast<float>(a), static_cast<float>(b)) : std::nextafter(a, b);
    case ScalarOp::CopySign:
      return std::copysign(a, b);
    default:
      throw InternalError("not an instruction of two reals: " + std::string(ir::info(op).name));
  }
}

bool is_signed(DType t) { return info(t).kind == DTypeKind::Signed; }

int64_t unary_integer(ScalarOp op, int64_t x, DType dtype) {
  const int bits = info(dtype).bits;
  switch (op) {
    case ScalarOp::Neg:
      return static_cast<int64_t>(0 - static_cast<uint64_t>(x));
    case ScalarOp::Abs:
      return is_signed(dtype) && x < 0 ? static_cast<int64_t>(0 - static_cast<uint64_t>(x)) : x;
    case ScalarOp::Sign:
      return is_signed(dtype) ? (x > 0) - (x < 0) : x != 0;
    case ScalarOp::Floor:
    case ScalarOp::Ceil:
    case ScalarOp::Round:
    case ScalarOp::Trunc:
      return x;
    case ScalarOp::Not:
      return dtype == DType::Bool ? !x : ~x;
    case ScalarOp::PopCount: {
      const uint64_t mask = bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
      return std::popcount(static_cast<uint64_t>(x) & mask);
    }
    default:
      throw InternalError("not an instruction of one integer: " + std::string(ir::info(op).name));
  }
}

int64_t power_integer(int64_t base, int64_t exponent, bool with_sign) {
  if (with_sign && exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent % 2 ? -1 : 1) : 0;
  uint64_t result = 1, factor = static_cast<uint64_t>(base);
  for (auto e = static_cast<uint64_t>(exponent); e; e >>= 1, factor *= factor) {
    if (e & 1) result *= factor;
  }
  return static_cast<int64_t>(result);
}

int64_t divide_integer(ScalarOp op, int64_t a, int64_t b, bool with_sign) {
  if (b == 0) return 0;
  if (!with_sign) {
    const auto ua = static_cast<uint64_t>(a), ub = static_cast<uint64_t>(b);
    return static_cast<int64_t>(op == ScalarOp::Div || op == ScalarOp::Tdiv ? ua / ub : ua % ub);
  }
  if (b == -1)
    return op == ScalarOp::Div || op == ScalarOp::Tdiv ? static_cast<int64_t>(0 - static_cast<uint64_t>(a)) : 0;
  const int64_t q = a / b, r = a % b;
  const bool adjust = r != 0 && (r < 0) != (b < 0);
  switch (op) {
    case ScalarOp::Div:
      return adjust ? q - 1 : q;
    case ScalarOp::Rem:
      return adjust ? r + b : r;
    case ScalarOp::Tdiv:
      return q;
    default:
      return r;
  }
}

int64_t shift_integer(ScalarOp op, int64_t a, int64_t b, DType dtype) {
  const bool with_sign = is_signed(dtype);
  const bool too_far = (with_sign && b < 0) || static_cast<uint64_t>(b) >= static_cast<uint64_t>(info(dtype).bits);
  if (op == ScalarOp::Shl) return too_far ? 0 : static_cast<int64_t>(static_cast<uint64_t>(a) << b);
  if (too_far) return with_sign && a < 0 ? -1 : 0;
  return with_sign ? a >> b : static_cast<int64_t>(static_cast<uint64_t>(a) >> b);
}

bool integer_less(int64_t a, int64_t b, bool with_sign) {
  return with_sign ? a < b : static_cast<uint64_t>(a) < static_cast<uint64_t>(b);
}

int64_t binary_integer(ScalarOp op, int64_t a, int64_t b, DType dtype) {
  const auto ua = static_cast<uint64_t>(a), ub = static_cast<uint64_t>(b);
  const bool with_sign = is_signed(dtype);
  switch (op) {
    case ScalarOp::Add:
      return dtype == DType::Bool ? (a | b) : static_cast<int64_t>(ua + ub);
    case ScalarOp::Sub:
      return static_cast<int64_t>(ua - ub);
    case ScalarOp::Mul:
      return static_cast<int64_t>(ua * ub);
    case ScalarOp::Div:
    case ScalarOp::Rem:
    case ScalarOp::Tdiv:
    case ScalarOp::Fmod:
      return divide_integer(op, a, b, with_sign);
    case ScalarOp::Pow:
      return power_integer(a, b, with_sign);
    case ScalarOp::Min:
      return integer_less(b, a, with_sign) ? b : a;
    case ScalarOp::Max:
      return integer_less(a, b, with_sign) ? b : a;
    case ScalarOp::And:
      return a & b;
    case ScalarOp::Or:
      return a | b;
    case ScalarOp::Xor:
      return a ^ b;
    case ScalarOp::Shl:
    case ScalarOp::Shr:
      return shift_integer(op, a, b, dtype);
    default:
      throw InternalError("not an instruction of two integers: " + std::string(ir::info(op).name));
  }
}

bool test_real(ScalarOp op, double a, double b) {
  switch (op) {
    case ScalarOp::IsNan:
      return std::isnan(a);
    case ScalarOp::IsInf:
      return std::isinf(a);
    case ScalarOp::IsFinite:
      return std::isfinite(a);
    case ScalarOp::SignBit:
      return std::signbit(a);
    case ScalarOp::Lt:
      return a < b;
    case ScalarOp::Le:
      return a <= b;
    case ScalarOp::Gt:
      return a > b;
    case ScalarOp::Ge:
      return a >= b;
    case ScalarOp::Eq:
      return a == b;
    default:
      return a != b;
  }
}

bool test_integer(ScalarOp op, int64_t a, int64_t b, bool with_sign) {
  switch (op) {
    case ScalarOp::Lt:
      return integer_less(a, b, with_sign);
    case ScalarOp::Le:
      return !integer_less(b, a, with_sign);
    case ScalarOp::Gt:
      return integer_less(b, a, with_sign);
    case ScalarOp::Ge:
      return !integer_less(a, b, with_sign);
    case ScalarOp::Eq:
      return a == b;
    default:
      return a != b;
  }
}

Cell convert(Cell x, DType from, DType to) {
  if (is_float(from)) {
    if (is_float(to)) return {round_to(to, x.real), 0};
    return {0, to == DType::Bool ? x.real != 0 : real_to_integer(to, x.real)};
  }
  if (is_float(to)) return {round_to(to, integer_to_real(to, x.integer, from == DType::U64)), 0};
  return {0, wrap_integer(to, x.integer)};
}

Cell bitcast(Cell x, DType from, DType to) {
  uint64_t bits = static_cast<uint64_t>(x.integer);
  if (from == DType::F32) bits = std::bit_cast<uint32_t>(static_cast<float>(x.real));
  if (from == DType::F64) bits = std::bit_cast<uint64_t>(x.real);
  if (to == DType::F32) return {std::bit_cast<float>(static_cast<uint32_t>(bits)), 0};
  if (to == DType::F64) return {std::bit_cast<double>(bits), 0};
  return {0, wrap_integer(to, static_cast<int64_t>(bits))};
}

Cell evaluate(const ir::ScalarProgram& program, const ScalarInstr& instr, const std::vector<Cell>& values) {
  const auto arg = [&](int k) -> const Cell& { return values[static_cast<size_t>(instr.args[k])]; };
  const auto arg_type = [&](int k) { return program.code[static_cast<size_t>(instr.args[k])].dtype; };
  const auto& op = ir::info(instr.op);
  switch (instr.op) {
    case ScalarOp::Const:
      return is_float(instr.dtype) ? Cell{round_to(instr.dtype, instr.real), 0} : Cell{0, instr.integer};
    case ScalarOp::Select:
      return arg(0).integer ? arg(1) : arg(2);
    case ScalarOp::Fma:
      if (arg_type(0) == DType::F64) return {std::fma(arg(0).real, arg(1).real, arg(2).real), 0};
      return {
          std::fma(static_cast<float>(arg(0).real), static_cast<float>(arg(1).real), static_cast<float>(arg(2).real)),
          0};
    case ScalarOp::Cast:
      return convert(arg(0), arg_type(0), instr.dtype);
    case ScalarOp::Bitcast:
      return bitcast(arg(0), arg_type(0), instr.dtype);
    default:
      break;
  }
  const DType type = arg_type(0);
  const Cell a = arg(0), b = op.arity > 1 ? arg(1) : Cell{};
  if (op.gives_bool)
    return {0, is_float(type) ? test_real(instr.op, a.real, b.real)
                              : test_integer(instr.op, a.integer, b.integer, is_signed(type))};
  if (is_float(type))
    return {round_to(instr.dtype,
                     op.arity == 1 ? unary_real(instr.op, a.real) : binary_real(instr.op, a.real, b.real, type)),
            0};
  return {0, wrap_integer(instr.dtype, op.arity == 1 ? unary_integer(instr.op, a.integer, type)
                                                     : binary_integer(instr.op, a.integer, b.integer, type))};
}

}  // namespace

void reference_elementwise(const ir::ScalarProgram& program, std::span<const ConstView> in, const View& out) {
  std::vector<ElementCursor> cursors;
  for (const auto& v : in) cursors.emplace_back(v);
  ElementCursor to(out);
  std::vector<Cell> values(program.code.size());
  for (int64_t n = numel(out.shape); n > 0; --n) {
    for (size_t k = 0; k < program.code.size(); ++k) {
      const ScalarInstr& instr = program.code[k];
      if (instr.op == ScalarOp::Input) {
        const auto i = static_cast<size_t>(instr.args[0]);
        if (is_float(in[i].dtype)) {
          values[k].real = load_real(in[i], cursors[i].element());
        } else {
          values[k].integer = load_integer(in[i], cursors[i].element());
        }
      } else {
        values[k] = evaluate(program, instr, values);
      }
    }
    if (is_float(out.dtype)) {
      store_real(out, to.element(), values.back().real);
    } else {
      store_integer(out, to.element(), values.back().integer);
    }
    for (auto& c : cursors) c.next();
    to.next();
  }
}

namespace {

// One result, while its elements go by.
struct Accumulator {
  ops::ReduceKind kind;
  DType in;
  long double real = 0;
  uint64_t whole = 0;
  double best = 0;
  int64_t best_integer = 0;
  int64_t position = -1;
  int64_t count = 0;

  Accumulator(ops::ReduceKind k, DType t) : kind(k), in(t) {
    if (k == ops::ReduceKind::Prod) real = 1, whole = 1;
    if (k == ops::ReduceKind::All) whole = 1;
  }

  void add(double x) {
    using enum ops::ReduceKind;
    switch (kind) {
      case Sum:
        real += x;
        break;
      case Prod:
        real *= x;
        break;
      case Any:
        whole = whole || x != 0;
        break;
      case All:
        whole = whole && x != 0;
        break;
      default: {
        const bool larger = kind == Max || kind == ArgMax;
        const bool better = count == 0 || (!std::isnan(best) && (std::isnan(x) || (larger ? x > best : x < best)));
        if (better) best = x, position = count;
      }
    }
    ++count;
  }
  void add(int64_t x) {
    using enum ops::ReduceKind;
    switch (kind) {
      case Sum:
        whole += static_cast<uint64_t>(x);
        break;
      case Prod:
        whole *= static_cast<uint64_t>(x);
        break;
      case Any:
        whole = whole || x != 0;
        break;
      case All:
        whole = whole && x != 0;
        break;
      default: {
        const bool larger = kind == Max || kind == ArgMax, with_sign = is_signed(in);
        const bool better = count == 0 || (larger ? integer_less(best_integer, x, with_sign)
                                                  : integer_less(x, best_integer, with_sign));
        if (better) best_integer = x, position = count;
      }
    }
    ++count;
  }
  void store(const View& out, int64_t element) const {
    using enum ops::ReduceKind;
    if (kind == ArgMax || kind == ArgMin) return store_integer(out, element, position);
    if (is_float(out.dtype)) {
      store_real(out, element, kind == Max || kind == Min ? best : static_cast<double>(real));
    } else {
      store_integer(out, element,
                    wrap_integer(out.dtype, kind == Max || kind == Min ? best_integer : static_cast<int64_t>(whole)));
    }
  }
};

}  // namespace

void reference_reduce(ops::ReduceKind kind, const ConstView& in, const Ints& axes, const View& out) {
  Shape kept, kept_strides, gone, gone_strides;
  for (size_t i = 0; i < in.shape.size(); ++i) {
    const bool reduced = std::find(axes.begin(), axes.end(), static_cast<int64_t>(i)) != axes.end();
    (reduced ? gone : kept).push_back(in.shape[i]);
    (reduced ? gone_strides : kept_strides).push_back(in.strides[i]);
  }
  ElementCursor outer(kept, kept_strides, in.offset), to(out);
  for (int64_t n = numel(kept); n > 0; --n, outer.next(), to.next()) {
    Accumulator acc(kind, in.dtype);
    ElementCursor inner(gone, gone_strides, outer.element());
    for (int64_t m = numel(gone); m > 0; --m, inner.next()) {
      is_float(in.dtype) ? acc.add(load_real(in, inner.element())) : acc.add(load_integer(in, inner.element()));
    }
    acc.store(out, to.element());
  }
}

void reference_copy(const ConstView& in, const View& out) {
  ElementCursor from(in), to(out);
  for (int64_t n = numel(out.shape); n > 0; --n, from.next(), to.next())
    convert_element(in, from.element(), out, to.element());
}

}  // namespace tenon::exec
