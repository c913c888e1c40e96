// LoRA (Hu et al., arXiv 2106.09685) in the layout of the PEFT package: adapter_config.json and
// adapter_model.safetensors.
//
//   auto model = models::load_llama("llama");
//   models::merge(models::load_lora("adapter"), model);          // W + scale * B A, in place of W
//
// Names are the published ones: the adapter of "model.layers.0.self_attn.q_proj" holds its matrices under
// "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" and "….lora_B.weight".
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tenon/base/error.h"
#include "tenon/nn/module.h"
#include "tenon/tensor/tensor.h"

namespace tenon::models {

struct LoraPair {
  Tensor a;  // [rank, in]
  Tensor b;  // [out, rank]
};
struct LoraAdapter {
  int64_t rank = 8;
  double alpha = 8;
  bool rank_stabilized = false;             // the scale is alpha / sqrt(rank) instead of alpha / rank
  bool fan_in_fan_out = false;              // the model's matrices are [in, out] (GPT-2)
  std::string base_model;                   // where the base model came from; only told
  std::map<std::string, LoraPair> modules;  // by the module's name in the base model

  [[nodiscard]] double scale() const;
};

// Errors: FileError, FormatError, UnsupportedError (another kind of adapter, DoRA, biases).
[[nodiscard]] LoraAdapter load_lora(const std::filesystem::path& folder);
void save_lora(const LoraAdapter& adapter, const std::filesystem::path& folder);

// The matrix of a module + scale * B A. Errors: ShapeError unless the pair is of the matrix's shape.
[[nodiscard]] Tensor adapted(const LoraAdapter& adapter, const std::string& module, const Tensor& weight);

// Adds every pair to its matrix. Errors: ValueError naming a module that the model has not; nothing has changed then.
template <class Model>
void merge(const LoraAdapter& adapter, const Model& model) {
  std::map<std::string, Variable> weights;
  for (const auto& named : nn::named_variables(model)) weights.emplace(named.name, named.variable);
  std::vector<std::pair<Variable, Tensor>> changed;
  for (const auto& [module, pair] : adapter.modules) {
    const auto found = weights.find(module + ".weight");
    if (found == weights.end())
      throw ValueError({.where = "lora", .problem = "the model has no '" + module + "', which the adapter changes"});
    changed.emplace_back(found->second, adapted(adapter, module, found->second.value()));
  }
  for (auto& [weight, value] : changed) weight.set(value);
}

}  // namespace tenon::models
