#include "tenon/optim/adam.h"

#include <limits>

#include "tenon/base/error.h"
#include "tenon/ops/elementwise.h"
#include "tenon/optim/check.h"

namespace tenon::optim {
namespace {

template <class Options>
Options checked(std::string_view name, Options o) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  check_option(name, "lr", o.lr, 0, infinity);
  check_option(name, "beta1", o.beta1, 0, 1);
  check_option(name, "beta2", o.beta2, 0, 1);
  check_option(name, "eps", o.eps, 0, infinity);
  check_option(name, "weight_decay", o.weight_decay, 0, infinity);
  return o;
}

template <class Options>
std::vector<GroupOf<Options>> checked(std::string_view name, std::span<const GroupOf<Options>> groups) {
  std::vector<GroupOf<Options>> result(groups.begin(), groups.end());
  for (auto& group : result) group.options = checked(name, group.options);
  return result;
}

template <class Options>
std::vector<std::string_view> moment_names(const Options& options) {
  if (options.amsgrad) return {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"};
  return {"exp_avg", "exp_avg_sq"};
}

// Both kinds of weight decay. The factors that depend on the step are computed in f64, once for the group.
template <class Options>
std::function<Tensor(Tensor, Tensor, Tensors&)> adam_rule(const Options& o, const Group& group, bool decoupled) {
  const Tensor lr = group.lr;
  const Tensor step = group.step;
  const Tensor step_size = lr / (1.0 - power(Tensor(o.beta1), step));
  const Tensor root_correction = sqrt(1.0 - power(Tensor(o.beta2), step));
  const Tensor shrink = o.weight_decay == 0 ? Tensor() : 1.0 - lr * o.weight_decay;
  return [=](Tensor value, Tensor gradient, Tensors& state) -> Tensor {
    const DType dtype = value.dtype();
    if (o.weight_decay != 0) {
      if (decoupled) {
        value = std::move(value) * cast(shrink, dtype);
      } else {
        gradient = std::move(gradient) + value * o.weight_decay;
      }
    }
    state[0] = lerp(std::move(state[0]), gradient, 1.0 - o.beta1);
    state[1] = std::move(state[1]) * o.beta2 + square(std::move(gradient)) * (1.0 - o.beta2);
    if (o.amsgrad) state[2] = maximum(std::move(state[2]), state[1]);
    Tensor denominator = sqrt(o.amsgrad ? state[2] : state[1]) / cast(root_correction, dtype) + o.eps;
    return std::move(value) - state[0] / std::move(denominator) * cast(step_size, dtype);
  };
}

}  // namespace

Adam::Adam(AdamOptions options) : OptimizerOf(checked("Adam", options)) {}
Adam::Adam(std::span<const Variable> parameters, AdamOptions options) : OptimizerOf(checked("Adam", options)) {
  add_group({parameters.begin(), parameters.end()});
}
Adam::Adam(std::span<const GroupOf<AdamOptions>> groups) : OptimizerOf(checked("Adam", groups)) { add_groups(groups); }
std::vector<std::string_view> Adam::state_names(size_t group) const { return moment_names(options(group)); }
Adam::Rule Adam::rule(size_t index, const Group& group) { return adam_rule(options(index), group, false); }

AdamW::AdamW(AdamWOptions options) : OptimizerOf(checked("AdamW", options)) {}
AdamW::AdamW(std::span<const Variable> parameters, AdamWOptions options) : OptimizerOf(checked("AdamW", options)) {
  add_group({parameters.begin(), parameters.end()});
}
AdamW::AdamW(std::span<const GroupOf<AdamWOptions>> groups) : OptimizerOf(checked("AdamW", groups)) {
  add_groups(groups);
}
std::vector<std::string_view> AdamW::state_names(size_t group) const { return moment_names(options(group)); }
AdamW::Rule AdamW::rule(size_t index, const Group& group) { return adam_rule(options(index), group, true); }

}  // namespace tenon::optim
