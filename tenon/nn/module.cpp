#include "tenon/nn/module.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "tenon/base/error.h"
#include "tenon/base/nearest.h"

namespace tenon::nn::detail {
namespace {

struct PlaceList final : Visitor {
  std::vector<NamedVariable> found;
  void variable(const std::string& path, Variable& variable) override {
    if (variable.defined()) found.push_back({path, variable});
  }
};

std::string quoted(const std::vector<std::string>& names, size_t most = 5) {
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), most); ++i) text += fmt::format("{}\"{}\"", i ? ", " : "", names[i]);
  if (names.size() > most) text += fmt::format(" and {} more", names.size() - most);
  return text;
}

// "\"fc1.wieght\" (the model has \"fc1.weight\")"
std::vector<std::string> suggestions(const std::vector<std::string>& missing,
                                     const std::vector<std::string>& unexpected) {
  const std::vector<std::string_view> candidates(missing.begin(), missing.end());
  std::vector<std::string> result;
  for (const auto& name : unexpected) {
    const std::string_view near = nearest_name(name, candidates);
    if (!near.empty()) result.push_back(fmt::format("rename \"{}\" to \"{}\"", name, near));
    if (result.size() == 3) break;
  }
  return result;
}

bool converts(DType from, DType to) {
  return from == to || (is_float(from) && is_float(to) && !info(from).storage_only && !info(to).storage_only);
}

struct Fit {
  std::vector<std::pair<Variable, const Tensor*>> pairs;
  LoadResult keys;
  std::vector<std::string> misfits;  // "\"fc1.weight\" is f32[3], got f32[4]"
  bool only_shapes = true;           // no misfit is one of dtype
};

// Compares without changing anything.
Fit fit(const std::vector<NamedVariable>& places, const StateDict& dict) {
  Fit result;
  std::map<const VariableCell*, const Tensor*> given;
  std::unordered_set<std::string_view> known;
  for (const auto& [name, variable] : places) {
    known.insert(name);
    const Tensor* tensor = dict.find(name);
    if (tensor == nullptr) continue;
    if (!tensor->defined() || tensor->shape() != variable.shape() || !converts(tensor->dtype(), variable.dtype())) {
      if (!tensor->defined() || tensor->shape() == variable.shape()) result.only_shapes = false;
      result.misfits.push_back(fmt::format("\"{}\" is {}, got {}", name, to_string(variable.type()),
                                           tensor->defined() ? to_string(tensor->type()) : "no value"));
    }
    given.emplace(variable.cell().get(), tensor);
  }
  std::set<const VariableCell*> seen;
  for (const auto& [name, variable] : places) {
    if (!seen.insert(variable.cell().get()).second) continue;
    const auto it = given.find(variable.cell().get());
    if (it == given.end()) {
      result.keys.missing.push_back(name);
    } else {
      result.pairs.emplace_back(variable, it->second);
    }
  }
  for (const auto& [name, tensor] : dict) {
    if (!known.contains(name)) result.keys.unexpected.push_back(name);
  }
  return result;
}

[[noreturn]] void complain(const Fit& fit, size_t model_keys, size_t dict_keys) {
  std::vector<std::string> problems;
  if (!fit.keys.missing.empty()) {
    problems.push_back(fmt::format("{} missing: {}", fit.keys.missing.size(), quoted(fit.keys.missing)));
  }
  if (!fit.keys.unexpected.empty()) {
    problems.push_back(fmt::format("{} unexpected: {}", fit.keys.unexpected.size(), quoted(fit.keys.unexpected)));
  }
  if (!fit.misfits.empty()) {
    const auto shown =
        std::vector(fit.misfits.begin(), fit.misfits.begin() + std::min<ptrdiff_t>(5, std::ssize(fit.misfits)));
    problems.push_back(fmt::format("{} of another type: {}{}", fit.misfits.size(), fmt::join(shown, "; "),
                                   fit.misfits.size() > 5 ? fmt::format(" and {} more", fit.misfits.size() - 5) : ""));
  }
  std::string hint = fmt::format("{}", fmt::join(suggestions(fit.keys.missing, fit.keys.unexpected), ", "));
  const bool keys_fit = fit.keys.missing.empty() && fit.keys.unexpected.empty();
  if (hint.empty() && !keys_fit && fit.misfits.empty()) {
    hint = "load_state_dict(model, dict, {.strict = false}) to load only the keys that both have";
  }
  ErrorParts parts{"load_state_dict", fmt::format("the weights do not fit the model ({})", fmt::join(problems, "; ")),
                   fmt::format("the model's {} keys", model_keys), fmt::format("{} keys", dict_keys), hint};
  if (keys_fit && fit.only_shapes) throw ShapeError(std::move(parts));
  throw ValueError(std::move(parts));
}

// Gives every cell, mode and shared target of a copied model a new one.
struct Renewal final : Visitor {
  std::unordered_map<const void*, Variable> cells;
  std::unordered_map<const void*, std::shared_ptr<void>> targets;
  std::set<const void*> fresh;  // targets made here

  void variable(const std::string&, Variable& variable) override {
    if (!variable.defined()) return;
    const auto [it, added] = cells.try_emplace(variable.cell().get());
    if (added) it->second = variable.clone();
    if (!fresh.contains(variable.cell().get())) {
      fresh.insert(it->second.cell().get());
      variable = it->second;
    }
  }
  void mode(const std::string&, Mode& mode) override { mode = mode.clone(); }
  std::shared_ptr<void> replace(const void* target, const Copy& copy) override {
    if (fresh.contains(target)) return nullptr;
    const auto [it, added] = targets.try_emplace(target);
    if (added) {
      it->second = copy();
      fresh.insert(it->second.get());
    }
    return it->second;
  }
};

struct ModeSwitch final : Visitor {
  bool training = true;
  void variable(const std::string&, Variable&) override {}
  void mode(const std::string&, Mode& mode) override { mode.set_training(training); }
};

struct SummaryRows final : Visitor {
  struct Row {
    std::string path;
    std::string type;
    std::string shapes;
    int64_t parameters = 0;
    int64_t buffers = 0;
  };
  std::vector<Row> rows;
  std::vector<size_t> open;
  std::set<const VariableCell*> seen;
  int64_t bytes = 0;

  void enter(const std::string& path, std::string_view type) override {
    open.push_back(rows.size());
    rows.push_back({path, std::string(type), "", 0, 0});
  }
  void leave() override { open.pop_back(); }
  void variable(const std::string& path, Variable& variable) override {
    if (!variable.defined()) return;
    if (open.empty()) enter(path, "Variable");
    Row& row = rows[open.back()];
    const std::string name = path.substr(path.rfind('.') + 1);
    const bool fresh = seen.insert(variable.cell().get()).second;
    row.shapes += fmt::format("{}{} {}{}", row.shapes.empty() ? "" : ", ", name, to_string(variable.shape()),
                              fresh ? "" : " (shared)");
    if (!fresh) return;
    (variable.trainable() ? row.parameters : row.buffers) += numel(variable.shape());
    bytes += byte_size(variable.dtype(), numel(variable.shape()));
  }
};

// 1234567 as "1,234,567".
std::string grouped(int64_t n) {
  const std::string digits = std::to_string(n);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i != 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

}  // namespace

std::vector<NamedVariable> places(const std::function<void(Visitor&)>& walk) {
  PlaceList list;
  walk(list);
  return std::move(list.found);
}

std::vector<NamedVariable> unique_variables(const std::function<void(Visitor&)>& walk) {
  std::vector<NamedVariable> result;
  std::unordered_set<const VariableCell*> seen;
  for (auto& place : places(walk)) {
    if (!seen.insert(place.variable.cell().get()).second) continue;
    if (place.variable.name().empty()) place.variable.set_name(place.name);
    result.push_back(std::move(place));
  }
  return result;
}

StateDict state_dict(const std::vector<NamedVariable>& variables) {
  StateDict dict;
  for (const auto& [name, variable] : variables) dict.set(name, variable.cell()->value);
  return dict;
}

LoadResult load(const std::vector<NamedVariable>& places, const StateDict& dict, const LoadOptions& options) {
  Fit found = fit(places, dict);
  const bool keys_fit = found.keys.missing.empty() && found.keys.unexpected.empty();
  if (!found.misfits.empty() || (options.strict && !keys_fit)) complain(found, places.size(), dict.size());
  for (auto& [variable, tensor] : found.pairs) variable.set(*tensor);
  return std::move(found.keys);
}

void set_training(const std::function<void(Visitor&)>& walk, bool training) {
  ModeSwitch visitor;
  visitor.training = training;
  walk(visitor);
}

void renew(const std::function<void(Visitor&)>& walk) {
  Renewal visitor;
  walk(visitor);
}

std::string summary(const std::function<void(Visitor&)>& walk) {
  SummaryRows visitor;
  walk(visitor);
  size_t path_width = 5, type_width = 4;
  for (const auto& row : visitor.rows) {
    path_width = std::max(path_width, row.path.size());
    type_width = std::max(type_width, row.type.size());
  }
  std::string text =
      fmt::format("{:<{}}  {:<{}}  {:>14}  {}\n", "layer", path_width, "type", type_width, "parameters", "variables");
  int64_t parameters = 0, buffers = 0;
  for (const auto& row : visitor.rows) {
    text += fmt::format("{:<{}}  {:<{}}  {:>14}  {}\n", row.path.empty() ? "." : row.path, path_width, row.type,
                        type_width, row.shapes.empty() ? "" : grouped(row.parameters), row.shapes);
    parameters += row.parameters;
    buffers += row.buffers;
  }
  text += fmt::format("{} parameters, {} in buffers, {} bytes\n", grouped(parameters), grouped(buffers),
                      grouped(visitor.bytes));
  return text;
}

}  // namespace tenon::nn::detail
