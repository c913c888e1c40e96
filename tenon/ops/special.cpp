#include "tenon/ops/special.h"

#include <array>
#include <cmath>
#include <limits>
#include <numbers>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/infer.h"
#include "tenon/tensor/element.h"

namespace tenon {
namespace ops {
namespace {

// B(2), B(4), … of Bernoulli.
constexpr std::array kBernoulli{1.0 / 6,       -1.0 / 30, 1.0 / 42,      -1.0 / 30,    5.0 / 66,
                                -691.0 / 2730, 7.0 / 6,   -3617.0 / 510, 43867.0 / 798};

// sum over k >= 0 of 1 / (x + k)^s for x > 0 (Hurwitz' zeta): terms up to a large x, then Euler and Maclaurin.
double zeta(double s, double x) {
  const double far = 12 + s;
  double head = 0;
  for (; x < far; x += 1) head += std::pow(x, -s);
  const double square = x * x;
  double factor = s / (2 * x), series = 0;  // s (s+1) … (s+2k-2) / (2k)! x^(1-2k)
  for (size_t k = 0; k < kBernoulli.size(); ++k) {
    const double term = kBernoulli[k] * factor;
    series += term;
    const auto i = static_cast<double>(2 * k);
    factor *= (s + i + 1) * (s + i + 2) / ((i + 3) * (i + 4) * square);
  }
  return head + std::pow(x, -s) * (x / (s - 1) + 0.5 + series);
}

double factorial(int64_t n) { return std::tgamma(static_cast<double>(n) + 1); }

double trigamma_of(double x) {
  if (x > 0) return zeta(2, x);
  // psi'(x) + psi'(1 - x) = (pi / sin(pi x))^2; the sine of the fraction alone, which is exact.
  const double sine = std::sin(std::numbers::pi * (x - std::floor(x)));
  return std::pow(std::numbers::pi / sine, 2) - zeta(2, 1 - x);
}

double polygamma_of(int64_t n, double x) {
  if (std::isnan(x)) return x;
  if (x == std::numeric_limits<double>::infinity()) return 0;
  if (x <= 0 && x == std::floor(x))
    return n % 2 == 1 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  if (x == -std::numeric_limits<double>::infinity()) return std::numeric_limits<double>::quiet_NaN();
  if (n == 1) return trigamma_of(x);
  const auto s = static_cast<double>(n + 1);
  if (x < -1e6) return std::numeric_limits<double>::quiet_NaN();
  // 1 / x^s + 1 / (x + 1)^s + … up to the first positive one, then zeta.
  double head = 0;
  for (; x < 0; x += 1) head += 1 / std::pow(x, s);
  return (n % 2 == 1 ? 1 : -1) * factorial(n) * (head + zeta(s, x));
}

void polygamma_reference(const ReferenceArgs& a) {
  const int64_t n = a.attrs.integer(0);
  ElementCursor from(a.inputs[0]);
  ElementCursor to(a.outputs[0].shape, a.outputs[0].strides, a.outputs[0].offset);
  for (int64_t left = numel(a.outputs[0].shape); left > 0; --left, from.next(), to.next())
    store_real(a.outputs[0], to.element(), polygamma_of(n, load_real(a.inputs[0], from.element())));
}

}  // namespace

const OpDef& polygamma_op() {
  static const OpDef def{
      .name = "polygamma",
      .doc = "The n-th derivative of digamma, n at least 1. Positive infinity (odd n) or NaN (even n) at 0, -1, ….",
      .inputs = {{"x", kFloats}},
      .attrs = {{"n", 1, ir::AttrType::Int, "order of the derivative"}},
      .promote = kPromoteToFloat,
      .infer =
          [](const InferArgs& a) {
            if (a.attrs.integer(0) < 1)
              fail_value(a, "n is too small", "1 or more", std::to_string(a.attrs.integer(0)), "digamma(x)");
            return infer_same(a);
          },
      .meaning = Primitive{polygamma_reference},
      .gradient = Vjp{[](const VjpArgs& a) { return Tensors{a.ct[0] * polygamma(a.attrs.integer(0) + 1, a.in[0])}; },
                      bit(0), 0},
      .batching = LeadingAxes{},
      .samples =
          [] {
            return std::vector<Sample>{{{{{7}, 0.5, 4}}, {int64_t{1}}},
                                       {{{{2, 3}, 0.6, 4}}, {int64_t{2}}},
                                       {{{{4}, 0, 0, {-0.4, -1.3, -2.6, 0.7}}}, {int64_t{1}}},
                                       {{{{3}, 0, 0, {-0.4, -1.3, 0.7}}}, {int64_t{3}}}};
          },
      .invalid_samples = [] { return std::vector<InvalidSample>{{{{{3}}}, {int64_t{0}}, "n is too small"}}; },
      .tolerance = {16, 1e-5}};
  return def;
}

std::vector<const OpDef*> special_ops() { return {&polygamma_op()}; }

}  // namespace ops

Tensor polygamma(int64_t n, Tensor x) {
  if (n < 0)
    throw ValueError({"polygamma", "a negative order", "0 or more", std::to_string(n), "lgamma(x) is the integral"});
  return n == 0 ? digamma(std::move(x)) : ops::call1(ops::polygamma_op(), {std::move(x)}, {n});
}

}  // namespace tenon
