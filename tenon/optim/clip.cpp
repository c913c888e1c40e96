#include "tenon/optim/clip.h"

#include <fmt/format.h>

#include <cmath>

#include "tenon/base/error.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"
#include "tenon/trace/sparse.h"
#include "tenon/trace/state.h"

namespace tenon::optim {
namespace {

// fn on the elements that a gradient holds: all of them, or the rows of a sparse one (each row once).
template <class Fn>
Tensor on_elements(const Tensor& gradient, Fn fn) {
  if (sparse_rows(gradient) == nullptr) return fn(gradient);
  const Tensor merged = coalesce(gradient);
  const SparseRows& rows = *sparse_rows(merged);
  return make_sparse_rows(rows.indices, fn(rows.values), gradient.type());
}

void check_limit(const char* where, double limit) {
  if (limit > 0) return;
  throw ValueError({where, "the limit must be positive", "a number above 0", fmt::format("{}", limit), ""});
}

}  // namespace

Tensor grad_norm(const std::vector<Variable>& parameters, double p) {
  const NoGrad no_grad;
  Tensors norms;
  for (const auto& parameter : parameters) {
    const Tensor& gradient = parameter.grad();
    if (!gradient.defined()) continue;
    if (sparse_rows(gradient) == nullptr) {
      norms.push_back(cast(norm(gradient, p), DType::F32));
    } else {
      norms.push_back(cast(norm(sparse_rows(coalesce(gradient))->values, p), DType::F32));
    }
  }
  if (norms.empty()) return zeros({});
  return norm(stack(norms), p);
}

Tensor clip_grad_norm_(const std::vector<Variable>& parameters, double max_norm, double p) {
  check_limit("clip_grad_norm_", max_norm);
  const NoGrad no_grad;
  Tensor total = grad_norm(parameters, p);
  const Tensor scale = minimum(max_norm / (total + 1e-6), 1.0);
  for (Variable parameter : parameters) {
    if (!parameter.grad().defined()) continue;
    parameter.set_grad(on_elements(parameter.grad(), [&scale](const Tensor& x) { return x * cast(scale, x.dtype()); }));
  }
  return total;
}

void clip_grad_value_(const std::vector<Variable>& parameters, double limit) {
  check_limit("clip_grad_value_", limit);
  const NoGrad no_grad;
  for (Variable parameter : parameters) {
    if (!parameter.grad().defined()) continue;
    parameter.set_grad(on_elements(parameter.grad(), [limit](const Tensor& x) { return clamp(x, -limit, limit); }));
  }
}

}  // namespace tenon::optim
