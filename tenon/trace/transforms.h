// Function transformations: grad, vjp, jvp, Jacobians, Hessian-vector products.
//
// All take a function of tensors and nest in any order, with each other and with vmap. There is one derivative
// rule for each op, the vector-Jacobian product; jvp is the transpose of it (differentiating the vjp with
// respect to its cotangent, in which it is linear), so it needs no second rule.
#pragma once

#include <functional>
#include <utility>

#include "tenon/tensor/variable.h"
#include "tenon/trace/capture.h"

namespace tenon {

using ScalarFunction = std::function<Tensor(const Tensors&)>;
using UnaryFunction = std::function<Tensor(const Tensor&)>;

// Gradients of a scalar function with respect to the inputs numbered `argnums` (empty: all).
// Errors: ShapeError if the result is not 0-d or has more than one element; DTypeError if an input is not real.
std::function<Tensors(const Tensors&)> grad(ScalarFunction fn, std::vector<int> argnums = {});
UnaryFunction grad(UnaryFunction fn);

struct ValueAndGrad {
  Tensor value;
  Tensors grads;
};
std::function<ValueAndGrad(const Tensors&)> value_and_grad(ScalarFunction fn, std::vector<int> argnums = {});
// The same with respect to Variables that `fn` reads. Nested in a function that is differentiated itself, the results
// can be differentiated again; elsewhere with `create_graph`, which keeps what the pass used
// (sum(grads[0]).backward()).
ValueAndGrad value_and_grad(const std::function<Tensor()>& fn, const std::vector<Variable>& variables,
                            bool create_graph = false);

// Outputs of fn at `inputs`, and the function from cotangents of the outputs to cotangents of the inputs.
struct Vjp {
  Tensors outputs;
  std::function<Tensors(const Tensors&)> pullback;
};
Vjp vjp(const trace::Function& fn, const Tensors& inputs);

// Outputs of fn at `inputs`, and their directional derivatives along `tangents`.
struct Jvp {
  Tensors outputs;
  Tensors tangents;
};
Jvp jvp(const trace::Function& fn, const Tensors& inputs, const Tensors& tangents);

// d fn(x)[i…] / d x[j…], of shape fn(x).shape + x.shape; row by row under vmap.
Tensor jacobian(const UnaryFunction& fn, const Tensor& x);
// The Hessian of a scalar function times v, without forming the Hessian.
Tensor hvp(const UnaryFunction& fn, const Tensor& x, const Tensor& v);
Tensor hessian(const UnaryFunction& fn, const Tensor& x);

// A function with its own derivative: `forward` gives the outputs; `backward` maps (inputs, outputs, cotangents)
// to one cotangent for each input (undefined: none). Under vmap both are written for one example.
using CustomBackward = std::function<Tensors(const Tensors& in, const Tensors& out, const Tensors& ct)>;
trace::Function custom_vjp(std::string name, trace::Function forward, CustomBackward backward);

// Activation checkpointing: `fn` keeps only its inputs, and runs again when its gradient is wanted. (Differentiated
// around a vmap that it is in, the batch's activations are kept.)
trace::Function checkpoint(trace::Function fn);

// The same value; when its gradient is known, `hook` sees it and may return another one (undefined: unchanged). Under
// vmap it sees that of one example.
Tensor with_gradient_hook(const Tensor& x, std::function<Tensor(const Tensor&)> hook);

// The same value, through which no gradient flows.
inline Tensor stop_gradient(const Tensor& x) { return x.detach(); }

}  // namespace tenon
