// Optimiser steps as operators (ai.onnx.preview.training).
#include <array>
#include <cmath>

#include "tenon/formats/onnx/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"

namespace tenon::formats::onnx {
namespace {

constexpr std::string_view kTraining = "ai.onnx.preview.training";

// Inputs: rate, step, then all parameters, all gradients, all of each state; outputs: parameters, then each state.
struct Updates {
  Tensor rate;
  double step;
  size_t count;
  Updates(Call& c, size_t kinds)
      : rate(reshape(c.tensor(0), {})),
        step(reshape(c.value(1), {}).item<double>()),
        count((c.in.size() - 2) / kinds) {}
};

template <class Step>
Values update(Call& c, size_t states, const Step& step) {
  const Updates u(c, 2 + states);
  std::vector<Values> columns(1 + states);
  for (size_t k = 0; k < u.count; ++k) {
    Tensors old;
    for (size_t s = 0; s < states; ++s) old.push_back(c.tensor(2 + (2 + s) * u.count + k));
    const Tensors next = step(u, c.tensor(2 + k), c.tensor(2 + u.count + k), old);
    for (size_t i = 0; i < next.size(); ++i) columns[i].emplace_back(next[i]);
  }
  Values out;
  for (auto& column : columns) out.insert(out.end(), column.begin(), column.end());
  return out;
}

Values adagrad(Call& c) {
  const double decay = c.real_attribute("decay_factor", 0), epsilon = c.real_attribute("epsilon", 1e-6),
               penalty = c.real_attribute("norm_coefficient", 0);
  return update(c, 1, [&](const Updates& u, const Tensor& x, const Tensor& g0, const Tensors& s) {
    const Tensor rate = u.rate / (1 + u.step * decay), g = g0 + x * penalty;
    const Tensor total = s[0] + square(g);
    return Tensors{x - rate * g / (sqrt(total) + epsilon), total};
  });
}

Values adam(Call& c) {
  const double alpha = c.real_attribute("alpha", 0.9), beta = c.real_attribute("beta", 0.999),
               epsilon = c.real_attribute("epsilon", 1e-6), penalty = c.real_attribute("norm_coefficient", 0),
               after = c.real_attribute("norm_coefficient_post", 0);
  return update(c, 2, [&](const Updates& u, const Tensor& x, const Tensor& g0, const Tensors& s) {
    const Tensor g = g0 + x * penalty, m = s[0] * alpha + g * (1 - alpha), v = s[1] * beta + square(g) * (1 - beta);
    Tensor rate = u.rate;
    if (u.step > 0) rate = rate * (std::sqrt(1 - std::pow(beta, u.step)) / (1 - std::pow(alpha, u.step)));
    const Tensor next = x - rate * m / (sqrt(v) + epsilon);
    return Tensors{next * (1 - after), m, v};
  });
}

Values momentum(Call& c) {
  const double alpha = c.real_attribute("alpha", 0.9), beta = c.real_attribute("beta", 1),
               penalty = c.real_attribute("norm_coefficient", 0);
  const bool nesterov = c.text_attribute("mode", "standard") == "nesterov";
  return update(c, 1, [&](const Updates& u, const Tensor& x, const Tensor& g0, const Tensors& s) {
    const Tensor g = g0 + x * penalty, v = s[0] * alpha + g * (u.step > 0 ? beta : 1);
    return Tensors{x - u.rate * (nesterov ? g + v * alpha : v), v};
  });
}

constexpr std::array kRules{
    Rule{"Adagrad", adagrad, kTraining},
    Rule{"Adam", adam, kTraining},
    Rule{"Momentum", momentum, kTraining},
};

}  // namespace

std::span<const Rule> training_rules() { return kRules; }

}  // namespace tenon::formats::onnx
