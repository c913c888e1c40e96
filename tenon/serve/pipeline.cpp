#include "tenon/serve/pipeline.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <ranges>

#include "tenon/base/error.h"

namespace tenon::serve {
namespace {

std::string step_text(const PipelineOptions& o, size_t i) {
  return fmt::format("step {} ('{}')", i + 1, o.steps[i].model.name);
}

// Which step gives each tensor.
std::map<std::string, size_t> producers(const PipelineOptions& o) {
  std::map<std::string, size_t> out;
  for (size_t i = 0; i < o.steps.size(); ++i) {
    for (const auto& [output, tensor] : o.steps[i].outputs) out.emplace(tensor, i);
  }
  return out;
}

// The steps in an order that works; those of a cycle are left out.
std::vector<size_t> ordered(const PipelineOptions& o) {
  const auto from = producers(o);
  std::vector<size_t> out;
  std::set<size_t> done;
  for (bool moved = true; moved;) {
    moved = false;
    for (size_t i = 0; i < o.steps.size(); ++i) {
      if (done.contains(i)) continue;
      const bool ready = std::all_of(o.steps[i].inputs.begin(), o.steps[i].inputs.end(), [&](const auto& input) {
        const auto source = from.find(input.second);
        return source == from.end() || done.contains(source->second);
      });
      if (!ready) continue;
      out.push_back(i);
      done.insert(i);
      moved = true;
    }
  }
  return out;
}

const TensorSpec* find(const std::vector<TensorSpec>& specs, const std::string& name) {
  const auto found = std::find_if(specs.begin(), specs.end(), [&](const auto& s) { return s.name == name; });
  return found == specs.end() ? nullptr : &*found;
}

std::string names_of(const std::vector<TensorSpec>& specs) {
  std::vector<std::string_view> names;
  for (const auto& s : specs) names.emplace_back(s.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string type_text(const TensorSpec& s) {
  return fmt::format("{}{}", v2_name(s.type), s.has_rank ? fmt::format("[{}]", fmt::join(s.dims, ",")) : "");
}

// The extents that both allow; none if they contradict each other.
std::optional<TensorSpec> met(const TensorSpec& a, const TensorSpec& b) {
  if (!(a.type == b.type)) return {};
  if (!a.has_rank || !b.has_rank) return a.has_rank ? a : b;
  if (a.dims.size() != b.dims.size()) return {};
  TensorSpec out = a;
  for (size_t i = 0; i < out.dims.size(); ++i) {
    if (a.dims[i] >= 0 && b.dims[i] >= 0 && a.dims[i] != b.dims[i]) return {};
    out.dims[i] = std::max(a.dims[i], b.dims[i]);
  }
  return out;
}

// Joins what the steps say of each tensor.
class Specs {
 public:
  Specs(const PipelineOptions& options, std::span<const Model* const> models) : options_(options) {
    for (size_t i = 0; i < options.steps.size(); ++i) add_step(i, *models[i]);
  }
  // A declaration of the pipeline's own.
  void declare(const PipelineTensor& t) {
    TensorSpec spec{
        .name = t.name, .type = {}, .has_rank = t.dims.has_value(), .dims = t.dims.value_or(std::vector<int64_t>())};
    const auto known = tensors_.find(t.name);
    if (t.type)
      spec.type = *t.type;
    else if (known != tensors_.end())
      spec.type = known->second.spec.type;
    add(t.name, spec, "the declaration");
  }
  [[nodiscard]] TensorSpec spec(const std::string& tensor) const {
    const auto found = tensors_.find(tensor);
    TensorSpec out = found == tensors_.end() ? TensorSpec() : found->second.spec;
    out.name = tensor;
    return out;
  }
  std::vector<std::string> wrong;

 private:
  struct Known {
    TensorSpec spec;
    std::string by;
  };
  void add_step(size_t i, const Model& model) {
    const PipelineStep& step = options_.steps[i];
    const std::string where = step_text(options_, i);
    for (const auto& [output, tensor] : step.outputs) {
      if (const auto* spec = find(model.outputs(), output))
        add(tensor, *spec, fmt::format("output '{}' of {}", output, where));
      else
        wrong.push_back(
            fmt::format("{} has no output '{}': its outputs are {}", where, output, names_of(model.outputs())));
    }
    for (const auto& [input, tensor] : step.inputs) {
      if (const auto* spec = find(model.inputs(), input))
        add(tensor, *spec, fmt::format("input '{}' of {}", input, where));
      else
        wrong.push_back(fmt::format("{} has no input '{}': its inputs are {}", where, input, names_of(model.inputs())));
    }
    for (const auto& spec : model.inputs()) {
      if (!step.inputs.contains(spec.name))
        wrong.push_back(fmt::format("{}: nothing is mapped to its input '{}'", where, spec.name));
    }
  }
  void add(const std::string& tensor, const TensorSpec& spec, const std::string& by) {
    const auto [at, fresh] = tensors_.emplace(tensor, Known{spec, by});
    if (fresh) return;
    const auto both = met(at->second.spec, spec);
    if (both)
      at->second.spec = *both;
    else
      wrong.push_back(fmt::format("tensor '{}' is {} for {}, but {} for {}", tensor, type_text(at->second.spec),
                                  at->second.by, type_text(spec), by));
  }

  const PipelineOptions& options_;
  std::map<std::string, Known> tensors_;
};

std::vector<PipelineTensor> or_all(const std::vector<PipelineTensor>& declared, const std::vector<std::string>& open) {
  if (!declared.empty()) return declared;
  std::vector<PipelineTensor> out;
  for (const auto& name : open) out.push_back({.name = name});
  return out;
}

// In the order in which the steps name them.
std::vector<std::string> open_tensors(const PipelineOptions& o, bool taken) {
  std::set<std::string> given, used, seen;
  for (const auto& step : o.steps) {
    for (const auto& [name, tensor] : step.outputs) given.insert(tensor);
    for (const auto& [name, tensor] : step.inputs) used.insert(tensor);
  }
  std::vector<std::string> out;
  for (const auto& step : o.steps) {
    for (const auto& [name, tensor] : taken ? step.inputs : step.outputs) {
      if (!(taken ? given : used).contains(tensor) && seen.insert(tensor).second) out.push_back(tensor);
    }
  }
  return out;
}

}  // namespace

std::vector<std::string> faults(const PipelineOptions& o) {
  std::vector<std::string> out;
  if (o.steps.empty()) out.emplace_back("there is no step");
  std::map<std::string, std::string> given;
  std::set<std::string> declared;
  for (const auto& input : o.inputs) {
    if (!declared.insert(input.name).second) out.push_back(fmt::format("input '{}' is declared twice", input.name));
    given.emplace(input.name, "an input of the pipeline");
  }
  for (size_t i = 0; i < o.steps.size(); ++i) {
    const PipelineStep& step = o.steps[i];
    const std::string where = step_text(o, i);
    if (step.model.name.empty()) out.push_back(fmt::format("step {} has no model_name", i + 1));
    if (step.inputs.empty()) out.push_back(where + " takes no tensor");
    if (step.outputs.empty()) out.push_back(where + " gives no tensor");
    for (const auto& [output, tensor] : step.outputs) {
      const auto [at, fresh] = given.emplace(tensor, where);
      if (!fresh) out.push_back(fmt::format("tensor '{}' is given by {} and by {}", tensor, at->second, where));
    }
  }
  for (size_t i = 0; i < o.steps.size() && !o.inputs.empty(); ++i) {
    for (const auto& [input, tensor] : o.steps[i].inputs) {
      if (!given.contains(tensor))
        out.push_back(
            fmt::format("{} takes tensor '{}', which is no input and which no step gives", step_text(o, i), tensor));
    }
  }
  declared.clear();
  for (const auto& output : o.outputs) {
    if (!declared.insert(output.name).second) out.push_back(fmt::format("output '{}' is declared twice", output.name));
    if (!producers(o).contains(output.name)) out.push_back(fmt::format("no step gives the output '{}'", output.name));
  }
  const auto order = ordered(o);
  if (order.size() < o.steps.size()) {
    std::vector<std::string> cycle;
    for (size_t i = 0; i < o.steps.size(); ++i) {
      if (std::find(order.begin(), order.end(), i) == order.end()) cycle.push_back(step_text(o, i));
    }
    out.push_back(fmt::format("a cycle: {} wait for each other's tensors", fmt::join(cycle, ", ")));
  }
  return out;
}

Pipeline::Pipeline(const std::string& name, PipelineOptions options, std::span<const Model* const> models)
    : options_(std::move(options)) {
  Specs specs(options_, models);
  const auto inputs = or_all(options_.inputs, open_tensors(options_, true));
  const auto outputs = or_all(options_.outputs, open_tensors(options_, false));
  for (const auto& t : options_.inputs) specs.declare(t);
  for (const auto& t : options_.outputs) specs.declare(t);
  if (!specs.wrong.empty())
    throw FormatError(
        {fmt::format("pipeline '{}'", name), fmt::format("{}", fmt::join(specs.wrong, "; ")), {}, {}, {}});
  for (const auto& t : inputs) inputs_.push_back(specs.spec(t.name));
  for (const auto& t : outputs) outputs_.push_back(specs.spec(t.name));
  order_ = ordered(options_);
  platform_ = "ensemble";
}

std::vector<size_t> Pipeline::needed(std::span<const size_t> wanted) const {
  std::set<std::string> tensors;
  for (size_t at : wanted) tensors.insert(outputs_[at].name);
  std::vector<size_t> out;
  for (const size_t step : std::ranges::reverse_view(order_)) {
    const PipelineStep& s = options_.steps[step];
    if (std::none_of(s.outputs.begin(), s.outputs.end(), [&](const auto& o) { return tensors.contains(o.second); }))
      continue;
    for (const auto& [input, tensor] : s.inputs) tensors.insert(tensor);
    out.push_back(step);
  }
  std::reverse(out.begin(), out.end());
  return out;
}

std::vector<Value> Pipeline::run(std::vector<Value>) const { throw InternalError("a pipeline is run by the core"); }

}  // namespace tenon::serve
