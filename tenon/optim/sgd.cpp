#include "tenon/optim/sgd.h"

#include <limits>

#include "tenon/base/error.h"
#include "tenon/ops/elementwise.h"
#include "tenon/optim/check.h"

namespace tenon::optim {
namespace {

SGDOptions checked(SGDOptions o) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  check_option("SGD", "lr", o.lr, 0, infinity);
  check_option("SGD", "momentum", o.momentum, 0, infinity);
  check_option("SGD", "weight_decay", o.weight_decay, 0, infinity);
  if (o.nesterov && (o.momentum == 0 || o.dampening != 0)) {
    throw ValueError({"SGD", "Nesterov's momentum needs a momentum and no dampening", "momentum > 0, dampening = 0", "",
                      "{.momentum = 0.9, .nesterov = true}"});
  }
  return o;
}

std::vector<GroupOf<SGDOptions>> checked(std::span<const GroupOf<SGDOptions>> groups) {
  std::vector<GroupOf<SGDOptions>> result(groups.begin(), groups.end());
  for (auto& group : result) group.options = checked(group.options);
  return result;
}

}  // namespace

SGD::SGD(SGDOptions options) : OptimizerOf(checked(options)) {}
SGD::SGD(std::span<const Variable> parameters, SGDOptions options) : OptimizerOf(checked(options)) {
  add_group({parameters.begin(), parameters.end()});
}
SGD::SGD(std::span<const GroupOf<SGDOptions>> groups) : OptimizerOf(checked(groups)) { add_groups(groups); }

std::vector<std::string_view> SGD::state_names(size_t group) const {
  if (options(group).momentum == 0) return {};
  return {"momentum_buffer"};
}

SGD::Rule SGD::rule(size_t index, const Group& group) {
  const SGDOptions o = options(index);
  // The first momentum is the gradient itself, undampened.
  Tensor fresh = o.dampening == 0 ? Tensor(1.0) : where(equal(group.step, 1.0), 1.0, 1.0 - o.dampening);
  return [o, lr = Tensor(group.lr), fresh](Tensor value, Tensor gradient, Tensors& state) -> Tensor {
    const DType dtype = value.dtype();
    if (o.weight_decay != 0) gradient = gradient + value * o.weight_decay;
    if (o.momentum != 0) {
      Tensor& momentum = state[0];
      Tensor added = o.dampening == 0 ? gradient : gradient * cast(fresh, dtype);
      momentum = std::move(momentum) * o.momentum + std::move(added);
      gradient = o.nesterov ? std::move(gradient) + momentum * o.momentum : momentum;
    }
    return std::move(value) - std::move(gradient) * cast(lr, dtype);
  };
}

}  // namespace tenon::optim
