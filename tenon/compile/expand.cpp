// Elementary functions as instructions of the loop IR. Each follows device/cpu/level_math.h line by line; whoever
// changes one changes the other, and tests/compile compares the bits.
#include <cmath>
#include <limits>

#include "tenon/compile/loop_ir.h"

namespace tenon::compiler {
namespace {

using ir::ScalarOp;

class Writer {
 public:
  Writer(Kernel& kernel, std::vector<Stmt>& out) : kernel_(kernel), out_(out) {}

  // f32 unless said otherwise.
  int32_t constant(double value) { return put(ScalarOp::Const, DType::F32, {}, value, 0); }
  int32_t integer(int64_t value) { return put(ScalarOp::Const, DType::I32, {}, 0, value); }
  int32_t op(ScalarOp op, std::initializer_list<int32_t> args, DType dtype = DType::F32) {
    return put(op, dtype, args, 0, 0);
  }
  int32_t add(int32_t a, int32_t b) { return op(ScalarOp::Add, {a, b}); }
  int32_t sub(int32_t a, int32_t b) { return op(ScalarOp::Sub, {a, b}); }
  int32_t mul(int32_t a, int32_t b) { return op(ScalarOp::Mul, {a, b}); }
  int32_t fma(int32_t a, int32_t b, int32_t c) { return op(ScalarOp::Fma, {a, b, c}); }
  int32_t abs(int32_t a) { return op(ScalarOp::Abs, {a}); }
  int32_t select(int32_t c, int32_t a, int32_t b) { return op(ScalarOp::Select, {c, a, b}); }
  int32_t less(int32_t a, int32_t b) { return op(ScalarOp::Lt, {a, b}, DType::Bool); }
  int32_t greater(int32_t a, int32_t b) { return op(ScalarOp::Gt, {a, b}, DType::Bool); }
  int32_t equal(int32_t a, int32_t b) { return op(ScalarOp::Eq, {a, b}, DType::Bool); }
  int32_t is_nan(int32_t a) { return op(ScalarOp::IsNan, {a}, DType::Bool); }
  int32_t bits(int32_t a) { return op(ScalarOp::Bitcast, {a}, DType::I32); }
  int32_t from_bits(int32_t a) { return op(ScalarOp::Bitcast, {a}); }
  int32_t iadd(int32_t a, int32_t b) { return op(ScalarOp::Add, {a, b}, DType::I32); }
  int32_t isub(int32_t a, int32_t b) { return op(ScalarOp::Sub, {a, b}, DType::I32); }
  int32_t shift(ScalarOp how, int32_t a, int64_t by) { return op(how, {a, integer(by)}, DType::I32); }
  // p = fma(p, x, c) for each further coefficient.
  int32_t polynomial(int32_t x, std::initializer_list<float> coefficients) {
    int32_t p = -1;
    for (float c : coefficients) p = p < 0 ? constant(c) : fma(p, x, constant(c));
    return p;
  }

 private:
  int32_t put(ScalarOp op, DType dtype, std::initializer_list<int32_t> args, double real, int64_t integer) {
    Stmt s;
    s.op = op;
    s.dtype = dtype;
    s.result = kernel_.registers++;
    int n = 0;
    for (int32_t a : args) s.args[n++] = a;
    s.real = real;
    s.integer = integer;
    out_.push_back(s);
    return s.result;
  }
  Kernel& kernel_;
  std::vector<Stmt>& out_;
};

// x = n ln 2 + r: n + 1.5 * 2^23, and exp(r).
struct ExpParts {
  int32_t shifted, y;
};
ExpParts exp_parts(Writer& w, int32_t c) {
  const int32_t magic = w.constant(12582912.0F);
  const int32_t shifted = w.fma(c, w.constant(1.44269504088896341F), magic);
  const int32_t n = w.sub(shifted, magic);
  const int32_t r = w.fma(n, w.constant(2.12194440e-4F), w.fma(n, w.constant(-0.693359375F), c));
  const int32_t p =
      w.polynomial(r, {1.3814598788e-3F, 8.3687165752e-3F, 4.1668388993e-2F, 1.6666521132e-1F, 4.9999994040e-1F});
  return {shifted, w.add(w.fma(p, w.mul(r, r), r), w.constant(1.0F))};
}
int32_t expand_exp(Writer& w, int32_t x) {
  const int32_t high = w.constant(89.0F), low = w.constant(-104.0F);
  int32_t c = w.select(w.greater(x, high), high, x);
  c = w.select(w.less(c, low), low, c);
  const auto [shifted, e] = exp_parts(w, c);
  const int32_t y = w.select(w.equal(c, low), w.constant(0.0F), e);
  const int32_t k = w.isub(w.bits(shifted), w.integer(0x4b400000));
  const int32_t half = w.shift(ScalarOp::Shr, k, 1);
  const int32_t bias = w.integer(127);
  const int32_t s1 = w.from_bits(w.shift(ScalarOp::Shl, w.iadd(half, bias), 23));
  const int32_t s2 = w.from_bits(w.shift(ScalarOp::Shl, w.iadd(w.isub(k, half), bias), 23));
  return w.mul(w.mul(y, s1), s2);
}

// The same bits as expand_exp for |x| < 80: n goes into the exponent.
int32_t expand_exp_near(Writer& w, int32_t x) {
  const auto [shifted, y] = exp_parts(w, x);
  return w.from_bits(w.iadd(w.bits(y), w.shift(ScalarOp::Shl, w.bits(shifted), 23)));
}

int32_t expand_log(Writer& w, int32_t x) {
  const int32_t tiny = w.less(x, w.constant(1.17549435e-38F));
  const int32_t scaled = w.select(tiny, w.mul(x, w.constant(8388608.0F)), x);
  const int32_t base = w.integer(0x3f3504f3);
  const int32_t ix = w.isub(w.bits(scaled), base);
  const int32_t less = w.op(ScalarOp::Select, {tiny, w.integer(23), w.integer(0)}, DType::I32);
  const int32_t e = w.op(ScalarOp::Cast, {w.isub(w.shift(ScalarOp::Shr, ix, 23), less)});
  const int32_t mantissa = w.op(ScalarOp::And, {ix, w.integer(0x7fffff)}, DType::I32);
  const int32_t f = w.sub(w.from_bits(w.iadd(mantissa, base)), w.constant(1.0F));
  const int32_t z = w.mul(f, f);
  const int32_t p =
      w.polynomial(f, {7.0376836292e-2F, -1.1514610310e-1F, 1.1676998740e-1F, -1.2420140846e-1F, 1.4249322787e-1F,
                       -1.6668057665e-1F, 2.0000714765e-1F, -2.4999993993e-1F, 3.3333331174e-1F});
  int32_t y = w.fma(e, w.constant(-2.12194440e-4F), w.mul(w.mul(f, z), p));
  y = w.fma(z, w.constant(-0.5F), y);
  int32_t r = w.fma(e, w.constant(0.693359375F), w.add(f, y));
  const int32_t zero = w.constant(0.0F), infinity = w.constant(std::numeric_limits<float>::infinity());
  r = w.select(w.equal(x, zero), w.op(ScalarOp::Neg, {infinity}), r);
  r = w.select(w.less(x, zero), w.constant(std::numeric_limits<float>::quiet_NaN()), r);
  const int32_t keep = w.op(ScalarOp::Or, {w.equal(x, infinity), w.is_nan(x)}, DType::Bool);
  return w.select(keep, x, r);
}

int32_t expand_tanh(Writer& w, int32_t x) {
  const int32_t a = w.abs(x), z = w.mul(x, x);
  const int32_t p = w.polynomial(
      z, {-5.70498872745e-3F, 2.06390887954e-2F, -5.37397155531e-2F, 1.33314422036e-1F, -3.33332819422e-1F});
  const int32_t small = w.fma(p, w.mul(z, x), x);
  const int32_t ten = w.constant(10.0F), one = w.constant(1.0F);
  const int32_t c = w.select(w.greater(a, ten), ten, a);
  const int32_t e = expand_exp_near(w, w.add(c, c));  // of a NaN something; it is replaced below
  const int32_t large = w.sub(one, w.op(ScalarOp::Div, {w.constant(2.0F), w.add(e, one)}));
  const int32_t signed_large = w.op(ScalarOp::CopySign, {large, x});
  return w.select(w.less(a, w.constant(0.625F)), small, w.select(w.is_nan(x), x, signed_large));
}

// exp2_near_f32 of level_math.h.
int32_t expand_exp2_near(Writer& w, int32_t x) {
  const int32_t magic = w.constant(12582912.0F), shifted = w.add(x, magic);
  const int32_t p = w.polynomial(w.sub(x, w.sub(shifted, magic)), {1.32764562e-3F, 9.67554096e-3F, 5.55071346e-2F,
                                                                   2.40221202e-1F, 6.93146944e-1F, 1.0F});
  return w.from_bits(w.iadd(w.bits(p), w.shift(ScalarOp::Shl, w.bits(shifted), 23)));
}

int32_t expand_erf(Writer& w, int32_t x) {
  const int32_t a = w.abs(x), four = w.constant(4.0F);
  const int32_t t = w.select(w.greater(a, four), four, a);
  const int32_t s = w.mul(t, t);
  const int32_t r = w.polynomial(
      t, {-1.77739258e-3F, 2.22541001e-2F, -1.30763933e-1F, -9.39854741e-1F, -1.61535573F, -2.91889091e-3F});
  const int32_t outer = w.op(ScalarOp::CopySign, {w.sub(w.constant(1.0F), expand_exp2_near(w, r)), x});
  const int32_t q = w.polynomial(
      s, {-5.96761703e-4F, 4.99119423e-3F, -2.67681349e-2F, 1.12819925e-1F, -3.76125336e-1F, 1.28379166e-1F});
  const int32_t inner = w.fma(q, x, x);
  return w.select(w.greater(a, w.constant(0.927734375F)), outer, inner);
}

using Expansion = int32_t (*)(Writer& w, int32_t x);
Expansion expansion_of(const Stmt& s) {
  if (s.kind != StmtKind::Scalar || s.dtype != DType::F32) return nullptr;
  switch (s.op) {
    case ScalarOp::Exp:
      return expand_exp;
    case ScalarOp::Log:
      return expand_log;
    case ScalarOp::Tanh:
      return expand_tanh;
    case ScalarOp::Erf:
      return expand_erf;
    default:
      return nullptr;
  }
}

// The instructions from `begin` on in the order of a walk from the last one, operands from left to right: C++ leaves it
// to the compiler in which order nested calls of a Writer are made.
void put_in_order(std::vector<Stmt>& out, size_t begin) {
  std::vector<Stmt> written(out.begin() + static_cast<std::ptrdiff_t>(begin), out.end());
  out.resize(begin);
  const int32_t first = written.front().result;  // registers are numbered as they are written
  std::vector<int32_t> name(written.size(), -1);
  const auto put = [&](const auto& self, int32_t reg) -> int32_t {
    if (reg < first) return reg;
    int32_t& now = name[static_cast<size_t>(reg - first)];
    if (now >= 0) return now;
    Stmt s = written[static_cast<size_t>(reg - first)];
    for (int a = 0; a < ir::info(s.op).arity; ++a) s.args[a] = self(self, s.args[a]);
    now = s.result = first + static_cast<int32_t>(out.size() - begin);
    out.push_back(std::move(s));
    return now;
  };
  put(put, written.back().result);
}

void expand(Kernel& k, std::vector<Stmt>& body) {
  std::vector<Stmt> out;
  out.reserve(body.size());
  for (Stmt& s : body) {
    if (s.kind == StmtKind::For) {
      expand(k, s.body);
      out.push_back(std::move(s));
      continue;
    }
    const Expansion expansion = expansion_of(s);
    if (expansion == nullptr) {
      out.push_back(std::move(s));
      continue;
    }
    Writer w(k, out);
    const size_t begin = out.size();
    expansion(w, s.args[0]);
    put_in_order(out, begin);
    // The last instruction gives the result.
    out.back().result = s.result;
  }
  body = std::move(out);
}

}  // namespace

void expand_functions(Kernel& kernel) { expand(kernel, kernel.root.body); }

}  // namespace tenon::compiler
