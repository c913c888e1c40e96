#include "tenon/optim/optimizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "tenon/base/error.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/optim/rows.h"
#include "tenon/trace/sparse.h"
#include "tenon/trace/state.h"

namespace tenon::optim {
namespace {

std::string label(const Variable& parameter, size_t number) {
  return parameter.name().empty() ? fmt::format("param.{}", number) : parameter.name();
}

void check_parameters(std::string_view where, const std::vector<Group>& groups, const std::vector<Variable>& added) {
  if (added.empty()) {
    throw ValueError({std::string(where), "there is nothing to optimise", "one or more Variables", "an empty list",
                      "parameters(model), and check that the model's Variables are trainable"});
  }
  std::set<const VariableCell*> seen;
  for (const auto& group : groups) {
    for (const auto& slot : group.slots) seen.insert(slot.parameter.cell().get());
  }
  for (size_t i = 0; i < added.size(); ++i) {
    if (!added[i].defined()) {
      throw ValueError({std::string(where), fmt::format("parameter {} is an undefined Variable", i), "", "", ""});
    }
    const std::string name = label(added[i], i);
    if (!is_float(added[i].dtype())) {
      throw ValueError({std::string(where), fmt::format("parameter \"{}\" cannot have a gradient", name),
                        "a float dtype", std::string(tenon::name(added[i].dtype())),
                        "Variable(value, /*trainable=*/false)"});
    }
    if (!seen.insert(added[i].cell().get()).second) {
      throw ValueError({std::string(where), fmt::format("parameter \"{}\" is given twice", name),
                        "each Variable in one group, once", "", "parameters(model), which lists shared weights once"});
    }
  }
}

void check_gradient(std::string_view where, const Variable& parameter, size_t number) {
  const Tensor& gradient = parameter.grad();
  if (gradient.shape() != parameter.shape()) {
    throw ShapeError({std::string(where),
                      fmt::format("the gradient of \"{}\" does not fit it", label(parameter, number)),
                      to_string(parameter.type()), to_string(gradient.type()), ""});
  }
}

// The update of one parameter. Values are moved out of their cells, so that the results can take their buffers.
void update(Slot& slot, const std::function<Tensor(Tensor, Tensor, Tensors&)>& rule) {
  const Tensor gradient = slot.parameter.grad();
  Tensor value = slot.parameter.take();
  Tensors state;
  for (auto& variable : slot.state) state.push_back(variable.take());
  if (sparse_rows(gradient) == nullptr) {
    const DType dtype = value.dtype();
    value = rule(std::move(value), gradient.dtype() == dtype ? gradient : cast(gradient, dtype), state);
  } else {
    const Tensor merged = coalesce(gradient);
    const SparseRows& rows = *sparse_rows(merged);
    Tensors row_state;
    for (const auto& tensor : state) row_state.push_back(take_rows(tensor, rows.indices));
    Tensor new_rows = rule(take_rows(value, rows.indices), cast(rows.values, value.dtype()), row_state);
    value = set_rows(std::move(value), rows.indices, std::move(new_rows));
    for (size_t i = 0; i < state.size(); ++i) {
      state[i] = set_rows(std::move(state[i]), rows.indices, std::move(row_state[i]));
    }
  }
  slot.parameter.set(std::move(value));
  for (size_t i = 0; i < state.size(); ++i) slot.state[i].set(std::move(state[i]));
}

}  // namespace

void Optimizer::zero_grad() {
  for (auto& group : groups_) {
    for (auto& slot : group.slots) slot.parameter.zero_grad();
  }
}

void Optimizer::step() {
  const std::string where = fmt::format("{}::step", name());
  if (groups_.empty()) {
    throw ValueError({where, "the optimiser has no parameters", "parameters given to it, or bind()", "none",
                      fmt::format("optim::{}(parameters(model), {{.lr = {}}})", name(), configured_lr(0))});
  }
  size_t number = 0;
  for (auto& group : groups_) {
    for (auto& slot : group.slots) {
      if (slot.parameter.grad().defined()) check_gradient(where, slot.parameter, number);
      ++number;
    }
  }
  const NoGrad no_grad;
  for (size_t i = 0; i < groups_.size(); ++i) {
    Group& group = groups_[i];
    group.step.set(group.step.take() + 1.0);
    const Rule rule_of_group = rule(i, group);
    for (auto& slot : group.slots) {
      if (slot.parameter.grad().defined()) update(slot, rule_of_group);
    }
  }
}

std::vector<Variable> Optimizer::parameters() const {
  std::vector<Variable> result;
  for (const auto& group : groups_) {
    for (const auto& slot : group.slots) result.push_back(slot.parameter);
  }
  return result;
}

double Optimizer::lr(size_t group) const {
  if (group < groups_.size()) return groups_[group].lr.cell()->value.item<double>();
  if (!groups_.empty()) {
    throw IndexError({fmt::format("{}::lr", name()), "no such parameter group",
                      fmt::format("0 to {}", groups_.size() - 1), fmt::format("{}", group), ""});
  }
  return configured_lr(group);
}

void Optimizer::set_lr(double lr) {
  set_configured_lr(lr);
  for (size_t i = 0; i < groups_.size(); ++i) set_lr(i, lr);
}

void Optimizer::set_lr(size_t group, double lr) {
  if (group >= groups_.size()) {
    throw IndexError({fmt::format("{}::set_lr", name()), "no such parameter group",
                      fmt::format("less than {}", groups_.size()), fmt::format("{}", group), ""});
  }
  groups_[group].lr.set(Tensor(lr));
}

void Optimizer::add_group(const std::vector<Variable>& parameters) {
  check_parameters(name(), groups_, parameters);
  const size_t index = groups_.size();
  Group group;
  group.lr = Variable(full({}, configured_lr(index), DType::F64), /*trainable=*/false);
  group.step = Variable(full({}, 0, DType::F64), /*trainable=*/false);
  const size_t states = state_names(index).size();
  for (const auto& parameter : parameters) {
    Slot slot{parameter, {}};
    for (size_t i = 0; i < states; ++i) {
      slot.state.emplace_back(zeros(parameter.shape(), parameter.dtype()), /*trainable=*/false);
    }
    group.slots.push_back(std::move(slot));
  }
  groups_.push_back(std::move(group));
}

std::vector<std::pair<std::string, Variable>> Optimizer::named_state() const {
  std::vector<std::pair<std::string, Variable>> result;
  size_t number = 0;
  for (size_t i = 0; i < groups_.size(); ++i) {
    const Group& group = groups_[i];
    const auto names = state_names(i);
    result.emplace_back(fmt::format("group.{}.lr", i), group.lr);
    result.emplace_back(fmt::format("group.{}.step", i), group.step);
    for (const auto& slot : group.slots) {
      const std::string parameter = label(slot.parameter, number++);
      for (size_t k = 0; k < names.size(); ++k) {
        result.emplace_back(fmt::format("{}.{}", parameter, names[k]), slot.state[k]);
      }
    }
  }
  return result;
}

StateDict Optimizer::state_dict() const {
  StateDict dict;
  for (const auto& [key, variable] : named_state()) dict.set(key, variable.cell()->value);
  return dict;
}

void Optimizer::load_state_dict(const StateDict& dict) {
  const auto state = named_state();
  std::vector<std::string> problems;
  std::set<std::string_view> known;
  for (const auto& [key, variable] : state) {
    known.insert(key);
    const Tensor* tensor = dict.find(key);
    if (tensor == nullptr) {
      problems.push_back(fmt::format("\"{}\" is missing", key));
    } else if (!tensor->defined() || tensor->type() != variable.type()) {
      problems.push_back(fmt::format("\"{}\" is {}, got {}", key, to_string(variable.type()),
                                     tensor->defined() ? to_string(tensor->type()) : "no value"));
    }
  }
  for (const auto& entry : dict) {
    if (!known.contains(entry.first)) problems.push_back(fmt::format("\"{}\" is unexpected", entry.first));
  }
  if (!problems.empty()) {
    const size_t shown = std::min<size_t>(problems.size(), 5);
    const std::vector<std::string> first(problems.begin(), problems.begin() + static_cast<ptrdiff_t>(shown));
    throw ValueError({fmt::format("{}::load_state_dict", name()),
                      fmt::format("the state does not fit the optimiser: {}{}", fmt::join(first, "; "),
                                  shown < problems.size() ? fmt::format(" and {} more", problems.size() - shown) : ""),
                      "the state of the same optimiser over the same parameters", "", ""});
  }
  for (auto [key, variable] : state) variable.set(dict.at(key));
}

}  // namespace tenon::optim
