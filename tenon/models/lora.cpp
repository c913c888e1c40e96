#include "tenon/models/lora.h"

#include <fmt/format.h>

#include <cmath>
#include <set>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/formats/safetensors.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/text/value.h"

namespace tenon::models {
namespace {

constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kA = ".lora_A.weight", kB = ".lora_B.weight";

}  // namespace

double LoraAdapter::scale() const {
  return alpha / (rank_stabilized ? std::sqrt(static_cast<double>(rank)) : static_cast<double>(rank));
}

LoraAdapter load_lora(const std::filesystem::path& folder) {
  const auto path = folder / "adapter_config.json";
  const std::string where = path.string();
  const text::Value config = text::parse_json(read_text_file(path), where);
  const std::string kind = text::string_field(config, "peft_type", "LORA", where);
  if (kind != "LORA" || text::bool_field(config, "use_dora", false, where) ||
      text::string_field(config, "bias", "none", where) != "none")
    throw UnsupportedError({.where = where,
                            .problem = "another kind of adapter",
                            .expected = "peft_type LORA, without use_dora and with bias \"none\"",
                            .got = kind});
  LoraAdapter adapter;
  adapter.rank = text::as_count(text::get_field(config, "r", where), "r", 1 << 20, where);
  if (adapter.rank == 0) text::fail_field(where, "r", "at least 1", text::find_field(config, "r"));
  adapter.alpha = text::real_field(config, "lora_alpha", static_cast<double>(adapter.rank), where);
  adapter.rank_stabilized = text::bool_field(config, "use_rslora", false, where);
  adapter.fan_in_fan_out = text::bool_field(config, "fan_in_fan_out", false, where);
  adapter.base_model = text::string_field(config, "base_model_name_or_path", "", where);
  for (const char* pattern : {"rank_pattern", "alpha_pattern"})
    if (const text::Value* found = text::find_field(config, pattern);
        found != nullptr && found->is_object() && !found->object().empty())
      throw UnsupportedError({.where = where, .problem = fmt::format("a {} of its own for some modules", pattern)});

  const auto weights = folder / "adapter_model.safetensors";
  for (const auto& [name, tensor] : formats::load_safetensors(weights).tensors) {
    const bool a = name.ends_with(kA), b = name.ends_with(kB);
    if (!name.starts_with(kPrefix) || (!a && !b))
      throw UnsupportedError(
          {.where = weights.string(), .problem = fmt::format("'{}' is no part of a LoRA pair", name)});
    const std::size_t end = name.size() - (a ? kA : kB).size();
    LoraPair& pair = adapter.modules[name.substr(kPrefix.size(), end - kPrefix.size())];
    (a ? pair.a : pair.b) = tensor;
  }
  for (const auto& [module, pair] : adapter.modules) {
    const bool fits = pair.a.defined() && pair.b.defined() && pair.a.ndim() == 2 && pair.b.ndim() == 2 &&
                      pair.a.shape(0) == adapter.rank && pair.b.shape(1) == adapter.rank;
    if (!fits)
      throw FormatError(
          {.where = weights.string(),
           .problem = fmt::format("the pair of '{}' is not complete or not of rank {}", module, adapter.rank)});
  }
  return adapter;
}

void save_lora(const LoraAdapter& adapter, const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  StateDict weights;
  std::set<std::string> targets;
  for (const auto& [module, pair] : adapter.modules) {
    weights.set(fmt::format("{}{}{}", kPrefix, module, kA), contiguous(pair.a));
    weights.set(fmt::format("{}{}{}", kPrefix, module, kB), contiguous(pair.b));
    targets.insert(module.substr(module.rfind('.') + 1));
  }
  formats::save_safetensors(folder / "adapter_model.safetensors", weights, {{"format", "pt"}});
  text::List names;
  for (const auto& target : targets) names.emplace_back(target);
  const text::Value config(text::Object{{"peft_type", "LORA"},
                                        {"task_type", "CAUSAL_LM"},
                                        {"base_model_name_or_path", adapter.base_model},
                                        {"r", adapter.rank},
                                        {"lora_alpha", adapter.alpha},
                                        {"lora_dropout", 0.0},
                                        {"bias", "none"},
                                        {"use_rslora", adapter.rank_stabilized},
                                        {"fan_in_fan_out", adapter.fan_in_fan_out},
                                        {"target_modules", std::move(names)},
                                        {"inference_mode", true}});
  write_file_atomic(folder / "adapter_config.json", text::to_json(config, 2) + "\n");
}

Tensor adapted(const LoraAdapter& adapter, const std::string& module, const Tensor& weight) {
  const LoraPair& pair = adapter.modules.at(module);
  Tensor update = matmul(pair.b, pair.a) * Tensor(adapter.scale());
  if (adapter.fan_in_fan_out) update = transpose(update);
  if (update.shape() != weight.shape())
    throw ShapeError({"lora",
                      fmt::format("the adapter of '{}' does not fit the model", module),
                      to_string(weight.shape()),
                      to_string(update.shape()),
                      {}});
  return (weight + update).detach();
}

}  // namespace tenon::models
