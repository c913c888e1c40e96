// Derivatives in f64 against central differences, twice; forward mode against reverse mode.
#include <fmt/format.h>

#include <cmath>

#include "support.h"
#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/tensor/variable.h"
#include "tenon/trace/transforms.h"

namespace tenon::test {
namespace {

using namespace ops;
using Fn = std::function<Tensors(const Tensors&)>;

// <ct, fn(at + step * direction)>, summed in long double.
long double along(const Fn& fn, const Tensors& at, const std::vector<std::vector<double>>& direction, double step,
                  const Tensors& ct) {
  Tensors moved;
  for (size_t i = 0; i < at.size(); ++i) {
    auto v = at[i].to_vector<double>();
    for (size_t k = 0; k < v.size(); ++k) v[k] += step * direction[i][k];
    moved.push_back(lay_out(v, at[i].type(), Layout::Contiguous));
  }
  long double total = 0;
  const Tensors out = fn(moved);
  for (size_t r = 0; r < out.size(); ++r) {
    if (!out[r].defined()) continue;
    const auto y = out[r].to_vector<double>(), c = ct[r].to_vector<double>();
    for (size_t k = 0; k < y.size(); ++k) total += static_cast<long double>(y[k]) * c[k];
  }
  return total;
}

// Every element alone where there are few, else random directions.
std::vector<std::vector<std::vector<double>>> directions(const Tensors& at) {
  std::vector<std::vector<double>> zero;
  size_t count = 0;
  for (const auto& x : at) {
    zero.emplace_back(static_cast<size_t>(x.size()), 0.0);
    count += zero.back().size();
  }
  std::vector<std::vector<std::vector<double>>> list;
  if (count <= 24) {
    for (size_t i = 0; i < at.size(); ++i) {
      for (size_t k = 0; k < zero[i].size(); ++k) {
        list.push_back(zero);
        list.back()[i][k] = 1;
      }
    }
    return list;
  }
  for (uint64_t n = 0; n < 6; ++n) {
    list.emplace_back();
    for (size_t i = 0; i < at.size(); ++i)
      list.back().push_back(random_like(at[i], 777 + n * 31 + i).to_vector<double>());
  }
  return list;
}

Tensors cotangents(const Tensors& out, uint64_t seed) {
  Tensors ct;
  for (size_t r = 0; r < out.size(); ++r) ct.push_back(random_like(out[r], seed + r));
  return ct;
}

// Empty if the vjp of fn agrees with differences of fn.
std::string check_gradient(const Fn& fn, const Tensors& at, double tolerance, uint64_t seed) {
  const tenon::Vjp reverse = vjp(fn, at);
  const Tensors ct = cotangents(reverse.outputs, seed);
  const Tensors grads = reverse.pullback(ct);
  if (grads.size() != at.size()) return fmt::format("{} cotangents for {} inputs", grads.size(), at.size());
  std::vector<std::vector<double>> g;
  double scale = 1e-3;
  for (size_t i = 0; i < at.size(); ++i) {
    if (grads[i].defined() && grads[i].type() != at[i].type())
      return fmt::format("cotangent {} is {} for an input {}", i, to_string(grads[i].type()), to_string(at[i].type()));
    g.push_back(grads[i].defined() ? grads[i].to_vector<double>()
                                   : std::vector<double>(static_cast<size_t>(at[i].size()), 0.0));
    scale = std::max(scale, largest(grads[i]));
  }
  const double h = 5e-4;
  for (const auto& d : directions(at)) {
    const long double difference = (along(fn, at, d, -2 * h, ct) - 8 * along(fn, at, d, -h, ct) +
                                    8 * along(fn, at, d, h, ct) - along(fn, at, d, 2 * h, ct)) /
                                   (12 * h);
    long double claimed = 0;
    std::string place;
    for (size_t i = 0; i < g.size(); ++i) {
      for (size_t k = 0; k < g[i].size(); ++k) {
        claimed += static_cast<long double>(g[i][k]) * d[i][k];
        if (d[i][k] == 1 && place.empty()) place = fmt::format("differentiable input {}, element {}", i, k);
      }
    }
    if (!(std::abs(claimed - difference) <= tolerance * std::max<long double>(scale, std::abs(difference))))
      return fmt::format("{}: derivative {:.12g}, differences say {:.12g}", place.empty() ? "along a direction" : place,
                         static_cast<double>(claimed), static_cast<double>(difference));
  }
  return {};
}

TEST_P(Conformance, Gradients) {
  const exec::SessionScope scope(session_with(kKernels));
  for (const Case& c : cases(op())) {
    const DType t = best_choice(op(), c.sample);
    try {
      if (has_gradient(op())) {
        const Differentiable d = differentiable_part(op(), c);
        if (d.at.empty()) continue;
        EXPECT_EQ(check_gradient(d.fn, d.at, op().tolerance.gradient, 99), "") << where(op(), c, t, "gradient");
        continue;
      }
      Tensors in = make_inputs(op(), c, t);
      bool wanted = false;
      for (auto& x : in) {
        if (!x.defined() || !is_float(x.dtype()) || info(x.dtype()).storage_only) continue;
        x = Variable(x);
        wanted = true;
      }
      if (std::holds_alternative<NoGradient>(op().gradient)) {
        for (const Tensor& y : call(op(), in, c.sample.attrs))
          EXPECT_FALSE(y.requires_grad()) << where(op(), c, t, "has a gradient, against its definition");
      } else if (wanted) {
        EXPECT_THROW(
            {
              const Tensors out = call(op(), in, c.sample.attrs);
              for (const Tensor& y : out) y.backward(random_like(y, 1));
            },
            GradientError)
            << where(op(), c, t, "no gradient rule");
      }
    } catch (const std::exception& e) {
      ADD_FAILURE() << where(op(), c, t, "gradient") << ": " << e.what();
    }
  }
}

// The function from inputs to cotangents of the inputs, for a fixed cotangent.
Fn gradient_of(const Fn& fn, const Tensors& ct) {
  return [fn, ct](const Tensors& in) {
    Tensors grads = vjp(fn, in).pullback(ct);
    for (size_t i = 0; i < grads.size(); ++i) {
      if (!grads[i].defined())
        grads[i] =
            lay_out(std::vector<double>(static_cast<size_t>(in[i].size()), 0.0), in[i].type(), Layout::Contiguous);
    }
    return grads;
  };
}

TEST_P(Conformance, SecondDerivatives) {
  if (!has_gradient(op())) GTEST_SKIP() << "no gradient";
  const exec::SessionScope scope(session_with(kKernels));
  for (const Case& c : cases(op())) {
    const DType t = best_choice(op(), c.sample);
    try {
      const Differentiable d = differentiable_part(op(), c);
      if (d.at.empty()) continue;
      const Tensors ct = cotangents(d.fn(d.at), 99);
      EXPECT_EQ(check_gradient(gradient_of(d.fn, ct), d.at, 10 * op().tolerance.gradient, 55), "")
          << where(op(), c, t, "second derivative");
    } catch (const GradientError& e) {
      // The derivative calls an op that has none, and says why.
      EXPECT_NE(e.parts().problem.find("has no gradient: "), std::string::npos)
          << where(op(), c, t, "second derivative") << ": " << e.what();
    } catch (const std::exception& e) {
      ADD_FAILURE() << where(op(), c, t, "second derivative") << ": " << e.what();
    }
  }
}

double dot(const Tensors& a, const Tensors& b) {
  double total = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!a[i].defined() || !b[i].defined()) continue;
    const auto x = a[i].to_vector<double>(), y = b[i].to_vector<double>();
    for (size_t k = 0; k < x.size(); ++k) total += x[k] * y[k];
  }
  return total;
}

TEST_P(Conformance, ForwardMode) {
  if (!has_gradient(op())) GTEST_SKIP() << "no gradient";
  const exec::SessionScope scope(session_with(kKernels));
  for (const Case& c : cases(op())) {
    const DType t = best_choice(op(), c.sample);
    try {
      const Differentiable d = differentiable_part(op(), c);
      if (d.at.empty()) continue;
      const tenon::Vjp reverse = vjp(d.fn, d.at);
      const Tensors ct = cotangents(reverse.outputs, 99), tangents = cotangents(d.at, 11);
      const double back = dot(reverse.pullback(ct), tangents), forward = dot(ct, jvp(d.fn, d.at, tangents).tangents);
      EXPECT_NEAR(forward, back, 1e-9 * std::max(1.0, std::abs(back))) << where(op(), c, t, "jvp against vjp");
    } catch (const std::exception& e) {
      ADD_FAILURE() << where(op(), c, t, "jvp") << ": " << e.what();
    }
  }
}

}  // namespace
}  // namespace tenon::test
