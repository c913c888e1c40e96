// What one does with a whole model: its parameters, its weights as a dictionary, its mode, a copy, a summary.
//
// A model is any value that nn::visit can walk (visit.h): no base class, nothing registered. These functions take it
// by const reference because Variables are handles: loading weights does not change which cells the model holds.
// A Variable held in several places (weight sharing) is one cell. It is listed once, under the name of its first
// place, and so are its weights in the state dict; load_state_dict accepts it under any of its names.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tenon/nn/visit.h"
#include "tenon/tensor/state_dict.h"

namespace tenon::nn {

struct NamedVariable {
  std::string name;
  Variable variable;
};

struct LoadOptions {
  // false: keys that are missing or unexpected are reported in the result instead of thrown. Shapes must always fit.
  bool strict = true;
};
struct LoadResult {
  std::vector<std::string> missing;     // in the model, not in the dictionary
  std::vector<std::string> unexpected;  // in the dictionary, not in the model
};

namespace detail {
// Every defined Variable and every place where it is held.
std::vector<NamedVariable> places(const std::function<void(Visitor&)>& walk);
// Each cell once, under its first name; sets the name of cells that have none.
std::vector<NamedVariable> unique_variables(const std::function<void(Visitor&)>& walk);
StateDict state_dict(const std::vector<NamedVariable>& variables);
LoadResult load(const std::vector<NamedVariable>& places, const StateDict& dict, const LoadOptions& options);
std::string summary(const std::function<void(Visitor&)>& walk);
void set_training(const std::function<void(Visitor&)>& walk, bool training);
void renew(const std::function<void(Visitor&)>& walk);

template <class Model>
std::function<void(Visitor&)> walker(const Model& model) {
  return [&model](Visitor& visitor) { visit(model, visitor); };
}
template <class Fn>
struct EachVariable final : Visitor {
  Fn& fn;
  explicit EachVariable(Fn& f) : fn(f) {}
  void variable(const std::string& path, Variable& variable) override {
    if (variable.defined()) fn(std::string_view(path), variable);
  }
};
}  // namespace detail

// Calls fn(std::string_view path, Variable&) for every place that holds a defined Variable, in order of declaration.
template <class Model, class Fn>
void for_each_variable(const Model& model, Fn&& fn) {
  detail::EachVariable<Fn> visitor(fn);
  visit(model, visitor);
}

// Every Variable once: parameters and buffers.
template <class Model>
std::vector<NamedVariable> named_variables(const Model& model) {
  return detail::unique_variables(detail::walker(model));
}
// The trainable Variables, each cell once.
template <class Model>
std::vector<NamedVariable> named_parameters(const Model& model) {
  std::vector<NamedVariable> all = named_variables(model);
  std::erase_if(all, [](const NamedVariable& v) { return !v.variable.trainable(); });
  return all;
}
// The others: running statistics, and parameters that were frozen.
template <class Model>
std::vector<NamedVariable> named_buffers(const Model& model) {
  std::vector<NamedVariable> all = named_variables(model);
  std::erase_if(all, [](const NamedVariable& v) { return v.variable.trainable(); });
  return all;
}
template <class Model>
std::vector<Variable> parameters(const Model& model) {
  std::vector<Variable> result;
  for (auto& named : named_parameters(model)) result.push_back(std::move(named.variable));
  return result;
}
template <class Model>
std::vector<Variable> buffers(const Model& model) {
  std::vector<Variable> result;
  for (auto& named : named_buffers(model)) result.push_back(std::move(named.variable));
  return result;
}
// Elements of all parameters.
template <class Model>
int64_t num_parameters(const Model& model) {
  int64_t total = 0;
  for (const auto& named : named_parameters(model)) total += numel(named.variable.shape());
  return total;
}

// The values of all Variables by name.
template <class Model>
StateDict state_dict(const Model& model) {
  return detail::state_dict(named_variables(model));
}
// Sets the values of all Variables. Float types are converted to the Variable's own. On error nothing has changed.
// Errors: ValueError naming keys that are missing or unexpected (with the nearest names) and tensors whose shape or
// dtype does not fit; ShapeError if only shapes are wrong.
template <class Model>
LoadResult load_state_dict(const Model& model, const StateDict& dict, const LoadOptions& options = {}) {
  return detail::load(detail::places(detail::walker(model)), dict, options);
}

// A model with cells of its own and the same values; what was shared inside the model is shared inside the copy.
template <class Model>
Model clone(const Model& model) {
  static_assert(std::copy_constructible<Model>,
                "tenon: clone needs a model that can be copied; hold layers by value or by std::shared_ptr instead of "
                "std::unique_ptr");
  Model copy = model;
  detail::renew(detail::walker(copy));
  return copy;
}

// Switches every layer that behaves differently in training and in evaluation (Dropout, BatchNorm).
template <class Model>
void train(const Model& model, bool training = true) {
  detail::set_training(detail::walker(model), training);
}
template <class Model>
void eval(const Model& model) {
  train(model, false);
}

// Stops (or starts) gradients into the model's Variables that are parameters now; buffers stay as they are.
template <class Model>
void freeze(const Model& model) {
  for (auto& named : named_parameters(model)) named.variable.set_trainable(false);
}

template <class Model>
void zero_grad(const Model& model) {
  for (auto& named : named_variables(model)) named.variable.zero_grad();
}

// A table: each layer with its path, its Variables' shapes and their number of elements.
template <class Model>
std::string summary(const Model& model) {
  return detail::summary(detail::walker(model));
}

}  // namespace tenon::nn

namespace tenon {
// The house's programs write these without a namespace.
using nn::buffers;
using nn::clone;
using nn::load_state_dict;
using nn::named_buffers;
using nn::named_parameters;
using nn::num_parameters;
using nn::parameters;
using nn::state_dict;
using nn::summary;
}  // namespace tenon
