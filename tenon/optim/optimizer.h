// Optimizer: turns the gradients of Variables into new values.
//
//   auto optimizer = optim::Adam(parameters(model), {.lr = 1e-3});
//   optimizer.zero_grad(); loss.backward(); optimizer.step();
//
// Parameters come in groups, each with options of its own. An optimiser made without parameters is a configuration:
// bind() gives it the parameters later (train::Model does). Everything that changes from step to step is a Variable
// (learning rate, step count, moments), so a compiled step reads it as an input and a checkpoint saves it.
// Copies are handles of the same state.
//
// To add an optimiser: an options struct with `lr`, a class derived from OptimizerOf<Options>, and in its .cpp the
// names of its state and the rule of one parameter (sgd.cpp is the shortest).
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/tensor/state_dict.h"
#include "tenon/tensor/variable.h"

namespace tenon::optim {

// A parameter and what the optimiser remembers of it, in the order of state_names().
struct Slot {
  Variable parameter;
  std::vector<Variable> state;
};
struct Group {
  std::vector<Slot> slots;
  Variable lr;    // f64, 0-d
  Variable step;  // f64, 0-d: steps done
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;

  // Forgets the gradients of all parameters.
  void zero_grad();
  // One update of every parameter that has a gradient. Errors: ValueError if no parameters are bound; ShapeError if a
  // gradient has another shape than its parameter. On these errors nothing has changed.
  void step();
  // Gives the parameters to an optimiser that was made without (as one group). Errors: ValueError if it has some,
  // if none are given, if one is given twice, or if one is not a float.
  virtual void bind(const std::vector<Variable>& parameters) = 0;
  [[nodiscard]] bool bound() const { return !groups_.empty(); }

  [[nodiscard]] const std::vector<Group>& groups() const { return groups_; }
  [[nodiscard]] std::vector<Variable> parameters() const;
  // The learning rate of a group; before bind(), the configured one.
  [[nodiscard]] double lr(size_t group = 0) const;
  // For all groups, or one. A schedule calls this before each step; a compiled step is not compiled again.
  void set_lr(double lr);
  void set_lr(size_t group, double lr);

  // "group.0.lr", "group.0.step", and for each parameter "fc1.weight.exp_avg" … (parameters without a name are
  // "param.0", "param.1", …).
  [[nodiscard]] StateDict state_dict() const;
  // Errors: ValueError naming missing and unexpected keys and shapes that do not fit; then nothing has changed.
  void load_state_dict(const StateDict& dict);

 protected:
  // The name of the optimiser in messages, and of its state per parameter in a group.
  [[nodiscard]] virtual std::string_view name() const = 0;
  [[nodiscard]] virtual std::vector<std::string_view> state_names(size_t group) const = 0;
  [[nodiscard]] virtual double configured_lr(size_t group) const = 0;
  virtual void set_configured_lr(double lr) = 0;
  // The new value of one parameter from its value and gradient; replaces `state`. Elementwise: a row-sparse gradient
  // is served by the same rule on the rows it touches.
  using Rule = std::function<Tensor(Tensor value, Tensor gradient, Tensors& state)>;
  // The rule for this step of a group (whose step count includes it); what all parameters share is computed once here.
  [[nodiscard]] virtual Rule rule(size_t index, const Group& group) = 0;

  void add_group(const std::vector<Variable>& parameters);

 private:
  [[nodiscard]] std::vector<std::pair<std::string, Variable>> named_state() const;
  std::vector<Group> groups_;
};

// A group as the user writes it: optim::AdamW({{decayed, {.weight_decay = 0.1}}, {others, {.weight_decay = 0}}}).
template <class Options>
struct GroupOf {
  std::vector<Variable> parameters;
  Options options = {};
};

// What all optimisers share: options for each group. Parameters and groups come as spans or braced lists, not as
// vectors, for which g++ 12 would take the braces of Adam({.lr = 1e-3}) too.
template <class Options>
class OptimizerOf : public Optimizer {
 public:
  void bind(const std::vector<Variable>& parameters) override { add_group(parameters); }
  [[nodiscard]] const Options& options(size_t group = 0) const { return options_[group < options_.size() ? group : 0]; }

 protected:
  explicit OptimizerOf(Options options) : options_{std::move(options)} {}
  explicit OptimizerOf(const std::vector<GroupOf<Options>>& groups) {
    for (const auto& group : groups) options_.push_back(group.options);
  }
  void add_groups(std::span<const GroupOf<Options>> groups) {
    for (const auto& group : groups) add_group(group.parameters);
  }
  [[nodiscard]] double configured_lr(size_t group) const override { return options(group).lr; }
  void set_configured_lr(double lr) override {
    for (auto& options : options_) options.lr = lr;
  }

 private:
  std::vector<Options> options_;
};

// Any optimiser as a value: what options structs hold ({.optimizer = optim::Adam{}}).
class AnyOptimizer {
 public:
  AnyOptimizer() = default;
  template <std::derived_from<Optimizer> O>
  AnyOptimizer(O optimizer)  // NOLINT(google-explicit-constructor): an optimiser is one
      : optimizer_(std::make_shared<O>(std::move(optimizer))) {}
  [[nodiscard]] explicit operator bool() const { return static_cast<bool>(optimizer_); }
  Optimizer* operator->() const { return optimizer_.get(); }
  Optimizer& operator*() const { return *optimizer_; }

 private:
  std::shared_ptr<Optimizer> optimizer_;
};

}  // namespace tenon::optim
