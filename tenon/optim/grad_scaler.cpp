#include "tenon/optim/grad_scaler.h"

#include <fmt/format.h>

#include <cmath>

#include "tenon/base/error.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/reduce.h"
#include "tenon/trace/sparse.h"
#include "tenon/trace/state.h"

namespace tenon::optim {
namespace {

void expect(bool good, const char* option, const char* expected, double got) {
  if (!good)
    throw ValueError({"GradScaler", fmt::format("{} is out of range", option), expected, fmt::format("{}", got), ""});
}

// 0-d, with its element: in a compiled step an input, where full() would make the number part of the graph.
template <class T>
Tensor number(T value) {
  return from_vector<T>({value}, {});
}

// 0-d: how many elements are not finite.
Tensor count_bad(const Tensor& values) { return sum(logical_not(isfinite(values))); }

}  // namespace

GradScaler::GradScaler(GradScalerOptions options) : options_(options) {
  expect(options.init_scale > 0 && std::isfinite(options.init_scale), "init_scale", "a positive number",
         options.init_scale);
  expect(options.growth_factor > 1, "growth_factor", "above 1", options.growth_factor);
  expect(options.backoff_factor > 0 && options.backoff_factor < 1, "backoff_factor", "between 0 and 1",
         options.backoff_factor);
  expect(options.growth_interval >= 1, "growth_interval", "1 or more", static_cast<double>(options.growth_interval));
  scale_ = Variable(full({}, options.enabled ? options.init_scale : 1.0, DType::F32), /*trainable=*/false);
  tracker_ = Variable(zeros({}, DType::I64), /*trainable=*/false);
}

Tensor GradScaler::scale(const Tensor& loss) const {
  return options_.enabled ? loss * cast(scale_, loss.dtype() == DType::F64 ? DType::F64 : DType::F32) : loss;
}

void GradScaler::unscale(Optimizer& optimizer) {
  if (!options_.enabled) return;
  const auto [place, fresh] = passes_.try_emplace(&optimizer);
  if (!fresh)
    throw ValueError({"GradScaler::unscale", "the gradients of this optimiser are divided already",
                      "once for each step", "", "scaler.update() ends a step"});
  const NoGrad no_grad;
  const Tensor factor = cast(reciprocal(cast(scale_, DType::F64)), DType::F32);  // exact for powers of two
  Tensor bad;
  for (Variable parameter : optimizer.parameters()) {
    if (!parameter.grad().defined()) continue;
    const Tensor gradient = sparse_rows(parameter.grad()) == nullptr ? parameter.grad() : coalesce(parameter.grad());
    const SparseRows* rows = sparse_rows(gradient);
    const Tensor values = rows == nullptr ? gradient : rows->values;
    const Tensor divided = values * cast(factor, values.dtype());
    const Tensor count = count_bad(divided);
    bad = bad.defined() ? bad + count : count;
    parameter.set_grad(rows == nullptr ? divided : make_sparse_rows(rows->indices, divided, gradient.type()));
  }
  place->second.finite = !bad.defined() || bad.item<int64_t>() == 0;
}

bool GradScaler::step(Optimizer& optimizer) {
  if (!options_.enabled) {
    optimizer.step();
    return true;
  }
  if (!passes_.contains(&optimizer)) unscale(optimizer);
  Pass& pass = passes_.at(&optimizer);
  if (pass.stepped)
    throw ValueError({"GradScaler::step", "this optimiser has made its step already", "once for each step", "",
                      "scaler.update() ends a step"});
  if (pass.finite) optimizer.step();
  pass.stepped = true;
  return pass.finite;
}

void GradScaler::update() {
  if (!options_.enabled) return;
  if (passes_.empty())
    throw ValueError({"GradScaler::update", "no step was made", "scaler.step(optimizer) before it", "", ""});
  bool finite = true;
  for (const auto& [optimizer, pass] : passes_) finite = finite && pass.finite;
  passes_.clear();
  const double scale = scale_now();
  if (!finite) {
    scale_.set(number(static_cast<float>(scale * options_.backoff_factor)));
    tracker_.set(number<int64_t>(0));
    return;
  }
  const int64_t good = tracker_.value().item<int64_t>() + 1;
  if (good < options_.growth_interval) {
    tracker_.set(number(good));
    return;
  }
  const auto larger = static_cast<float>(scale * options_.growth_factor);
  if (std::isfinite(larger)) scale_.set(number(larger));
  tracker_.set(number<int64_t>(0));
}

double GradScaler::scale_now() const { return scale_.value().item<double>(); }

StateDict GradScaler::state_dict() const {
  StateDict dict;
  dict.set("scale", scale_.value());
  dict.set("growth_tracker", tracker_.value());
  return dict;
}

void GradScaler::load_state_dict(const StateDict& dict) {
  const Tensor *scale = dict.find("scale"), *tracker = dict.find("growth_tracker");
  for (const auto& [key, tensor, want] :
       {std::tuple{"scale", scale, scale_.type()}, std::tuple{"growth_tracker", tracker, tracker_.type()}}) {
    if (tensor == nullptr || tensor->type() != want)
      throw ValueError({"GradScaler::load_state_dict", fmt::format("\"{}\" does not fit", key), to_string(want),
                        tensor == nullptr ? "nothing" : to_string(tensor->type()), ""});
  }
  scale_.set(*scale);
  tracker_.set(*tracker);
}

}  // namespace tenon::optim
