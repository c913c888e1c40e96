// Pipelines: models joined into one that is served like any other (Triton calls it an ensemble).
//
// A pipeline is a directed acyclic graph of steps that pass named tensors. Each step runs one model of this server,
// through the model's own queue, so steps batch, split and count as requests from outside do. Steps run as soon as
// their tensors are there, those that no wanted output needs not at all; tensors are handed on in memory.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "tenon/serve/model.h"
#include "tenon/serve/request.h"

namespace tenon::serve {

struct PipelineStep {
  ModelRef model{};                              // no version: where the model's traffic goes
  std::map<std::string, std::string> inputs{};   // the model's input: the pipeline's tensor
  std::map<std::string, std::string> outputs{};  // the model's output: the pipeline's tensor
  bool operator==(const PipelineStep&) const = default;
};

// A tensor of the pipeline's own; what is not said is the models'.
struct PipelineTensor {
  std::string name{};
  std::optional<ElementType> type{};
  std::optional<std::vector<int64_t>> dims{};
  bool operator==(const PipelineTensor&) const = default;
};

struct PipelineOptions {
  std::vector<PipelineStep> steps{};
  std::vector<PipelineTensor> inputs{};   // none: the tensors that no step gives
  std::vector<PipelineTensor> outputs{};  // none: the tensors that no step takes
  bool operator==(const PipelineOptions&) const = default;
};

// Everything that is wrong with it alone: cycles, tensors that nobody gives or that two give, ….
std::vector<std::string> faults(const PipelineOptions& options);

class Pipeline final : public Model {
 public:
  // `models`: what each step runs, in order; only what they take and give is looked at. FormatError naming all that
  // does not fit: inputs that nothing is mapped to, names that a model does not have, types, shapes.
  Pipeline(const std::string& name, PipelineOptions options, std::span<const Model* const> models);

  [[nodiscard]] const PipelineOptions& options() const { return options_; }
  // The steps that these outputs (places in outputs()) need, in an order that works.
  [[nodiscard]] std::vector<size_t> needed(std::span<const size_t> wanted) const;
  // A pipeline is run by the core, step by step: InternalError.
  [[nodiscard]] std::vector<Value> run(std::vector<Value> inputs) const override;
  [[nodiscard]] const Pipeline* pipeline() const override { return this; }

 private:
  PipelineOptions options_;
  std::vector<size_t> order_;  // of the steps: each after those whose tensors it takes
};

}  // namespace tenon::serve
