#include "tenon/trace/transforms.h"

#include <fmt/format.h>

#include "tenon/base/error.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"
#include "tenon/trace/sparse.h"
#include "tenon/trace/state.h"
#include "tenon/trace/tape.h"
#include "tenon/trace/vmap.h"

namespace tenon {
namespace {

using trace::BackwardOptions;

// The graph may be walked again (a pullback called twice).
constexpr BackwardOptions kKeep{true, BackwardOptions::Record::IfOuterLeaves};
// The graph is used up, unless somebody else may differentiate the pass.
constexpr BackwardOptions kOnce{false, BackwardOptions::Record::IfOuterLeaves};

// Runs a function that will be differentiated: gradients that it takes itself stay differentiable.
template <class Fn, class... Inputs>
auto differentiated(const Fn& fn, const Inputs&... in) {
  const trace::Differentiating scope;
  return fn(in...);
}

void expect_scalar(const char* where, const Tensor& y) {
  if (y.size() != 1)
    throw ShapeError({where, "the function's result is not a scalar", "[]", to_string(y.shape()),
                      "sum(y), or vjp(fn, inputs) for a function of several results"});
}

void expect_real(const char* where, const Tensor& x, size_t i) {
  if (!is_float(x.dtype()))
    throw DTypeError({where, fmt::format("input {} is not real, so it has no gradient", i), "f16, bf16, f32 or f64",
                      std::string(name(x.dtype())), "cast(x, tenon::f32), or leave it out of argnums"});
}

// Weak numbers get a dtype of their own before they become leaves.
Tensor settled(const Tensor& x) {
  const DType own = x.dtype();  // an undefined tensor says so here
  return x.impl()->weak ? cast(x, is_float(own) ? DType::F32 : own) : x;
}

Tensor zeros_if_undefined(Tensor g, const Tensor& like) {
  return g.defined() ? to_dense(g) : zeros_like(like.detach());
}

Tensors leaves(const char* where, const Tensors& inputs) {
  Tensors in;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Tensor x = settled(inputs[i]);
    expect_real(where, x, i);
    in.push_back(trace::make_leaf(x));
  }
  return in;
}

void finish(ValueAndGrad& result, const Tensors& wrt, bool always_record = false) {
  bool differentiable = false;
  const BackwardOptions options = always_record ? BackwardOptions{true, BackwardOptions::Record::Always} : kOnce;
  result.grads = trace::backpropagate({result.value}, {ones_like(result.value.detach())}, trace::edges_of(wrt), options,
                                      &differentiable);
  for (size_t i = 0; i < wrt.size(); ++i) result.grads[i] = zeros_if_undefined(result.grads[i], wrt[i]);
  if (!differentiable && !always_record) result.value = trace::without_tape(result.value);
}

}  // namespace

std::function<ValueAndGrad(const Tensors&)> value_and_grad(ScalarFunction fn, std::vector<int> argnums) {
  return [fn = std::move(fn), argnums = std::move(argnums)](const Tensors& inputs) {
    const EnableGrad enable;
    std::vector<int> which = argnums;
    if (which.empty()) {
      for (size_t i = 0; i < inputs.size(); ++i) which.push_back(static_cast<int>(i));
    }
    Tensors in = inputs;
    Tensors wrt;
    for (int i : which) {
      if (i < 0 || static_cast<size_t>(i) >= in.size())
        throw IndexError({"grad",
                          "argnums names an input that does not exist",
                          fmt::format("0 to {}", static_cast<int>(in.size()) - 1),
                          std::to_string(i),
                          {}});
      Tensor& x = in[static_cast<size_t>(i)];
      x = settled(x);
      expect_real("grad", x, static_cast<size_t>(i));
      x = trace::make_leaf(x);
      wrt.push_back(x);
    }
    ValueAndGrad result;
    result.value = differentiated(fn, in);
    expect_scalar("grad", result.value);
    finish(result, wrt);
    return result;
  };
}

std::function<Tensors(const Tensors&)> grad(ScalarFunction fn, std::vector<int> argnums) {
  return
      [both = value_and_grad(std::move(fn), std::move(argnums))](const Tensors& inputs) { return both(inputs).grads; };
}

UnaryFunction grad(UnaryFunction fn) {
  return [g = grad(ScalarFunction([fn = std::move(fn)](const Tensors& in) { return fn(in[0]); }))](const Tensor& x) {
    return g({x})[0];
  };
}

ValueAndGrad value_and_grad(const std::function<Tensor()>& fn, const std::vector<Variable>& variables,
                            bool create_graph) {
  const EnableGrad enable;
  ValueAndGrad result;
  result.value = differentiated(fn);
  expect_scalar("value_and_grad", result.value);
  Tensors wrt;
  for (const auto& v : variables) wrt.push_back(v.value());
  finish(result, wrt, create_graph);
  return result;
}

Vjp vjp(const trace::Function& fn, const Tensors& inputs) {
  const EnableGrad enable;
  const Tensors in = leaves("vjp", inputs);
  Vjp result;
  Tensors outputs = differentiated(fn, in);
  for (const auto& y : outputs) result.outputs.push_back(y);
  result.pullback = [in, outputs](const Tensors& ct) {
    if (ct.size() != outputs.size())
      throw ValueError(
          {"vjp", "wrong number of cotangents", std::to_string(outputs.size()), std::to_string(ct.size()), {}});
    for (size_t i = 0; i < ct.size(); ++i) {
      if (ct[i].defined() && ct[i].shape() != outputs[i].shape())
        throw ShapeError({"vjp",
                          fmt::format("cotangent {} has another shape than its output", i),
                          to_string(outputs[i].shape()),
                          to_string(ct[i].shape()),
                          {}});
    }
    const EnableGrad enable_again;
    // The caller may differentiate with respect to the cotangents too, so the pass is always recorded.
    Tensors g = trace::backpropagate(outputs, ct, trace::edges_of(in), kKeep);
    for (size_t i = 0; i < g.size(); ++i) g[i] = zeros_if_undefined(g[i], in[i]);
    return g;
  };
  return result;
}

Jvp jvp(const trace::Function& fn, const Tensors& inputs, const Tensors& tangents) {
  if (tangents.size() != inputs.size())
    throw ValueError(
        {"jvp", "wrong number of tangents", std::to_string(inputs.size()), std::to_string(tangents.size()), {}});
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (tangents[i].shape() != inputs[i].shape())
      throw ShapeError({"jvp",
                        fmt::format("tangent {} has another shape than its input", i),
                        to_string(inputs[i].shape()),
                        to_string(tangents[i].shape()),
                        {}});
  }
  const EnableGrad enable;
  const Tensors in = leaves("jvp", inputs);
  const Tensors outputs = differentiated(fn, in);
  // The pullback is linear in its cotangent u; its transpose is the pushforward.
  Tensors u;
  for (const auto& y : outputs) u.push_back(is_float(y.dtype()) ? trace::make_leaf(zeros_like(y.detach())) : Tensor());
  const Tensors g = trace::backpropagate(outputs, u, trace::edges_of(in), kKeep);
  Tensors reached, directions;
  for (size_t i = 0; i < g.size(); ++i) {
    if (!g[i].defined()) continue;
    reached.push_back(g[i]);
    directions.push_back(cast(tangents[i], in[i].dtype()));
  }
  Jvp result;
  result.outputs = outputs;
  Tensors wrt;
  for (const auto& x : u) {
    if (x.defined()) wrt.push_back(x);
  }
  Tensors t = trace::backpropagate(reached, directions, trace::edges_of(wrt), kKeep);
  size_t next = 0;
  for (size_t k = 0; k < outputs.size(); ++k) {
    Tensor tangent = u[k].defined() ? t[next++] : Tensor();
    result.tangents.push_back(zeros_if_undefined(tangent, outputs[k]));
  }
  return result;
}

Tensor jacobian(const UnaryFunction& fn, const Tensor& x) {
  const auto pulled = vjp([&](const Tensors& in) { return Tensors{fn(in[0])}; }, {x});
  const Tensor& y = pulled.outputs[0];
  const Tensor basis = reshape(eye(y.size(), y.size(), y.dtype()), [&] {
    Shape s{y.size()};
    for (int64_t d : y.shape()) s.push_back(d);
    return s;
  }());
  const Tensor rows = vmap([&](const Tensors& ct) { return pulled.pullback(ct); })({basis})[0];
  Shape shape = y.shape();
  for (int64_t d : x.shape()) shape.push_back(d);
  return reshape(rows, shape);
}

Tensor hvp(const UnaryFunction& fn, const Tensor& x, const Tensor& v) {
  return jvp([g = grad(fn)](const Tensors& in) { return Tensors{g(in[0])}; }, {x}, {v}).tangents[0];
}

Tensor hessian(const UnaryFunction& fn, const Tensor& x) { return jacobian(grad(fn), x); }

}  // namespace tenon
