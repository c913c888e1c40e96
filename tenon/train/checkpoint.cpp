#include "tenon/train/checkpoint.h"

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>
#include <variant>

#include "tenon/base/error.h"
#include "tenon/formats/safetensors.h"

namespace tenon::train {
namespace {

constexpr const char* metadata_key = "tenon.checkpoint";
constexpr std::string_view model_prefix = "model.", optimizer_prefix = "optimizer.";

// The loop's numbers by name: one table for writing and reading.
struct Field {
  const char* name;
  std::variant<std::int64_t LoopState::*, std::uint64_t LoopState::*, double LoopState::*> member;
};
const std::array fields{
    Field{"step", &LoopState::step},
    Field{"loader_seed", &LoopState::loader_seed},
    Field{"loader_epoch", &LoopState::loader_epoch},
    Field{"loader_position", &LoopState::loader_position},
    Field{"dataset_size", &LoopState::dataset_size},
    Field{"batch_size", &LoopState::batch_size},
    Field{"random_seed", &LoopState::random_seed},
    Field{"random_counter", &LoopState::random_counter},
    Field{"loss_sum", &LoopState::loss_sum},
    Field{"examples", &LoopState::examples},
    Field{"labels", &LoopState::labels},
    Field{"correct", &LoopState::correct},
    Field{"row_seconds", &LoopState::row_seconds},
    Field{"seconds", &LoopState::seconds},
};

LoopState parse_loop(const std::string& text, const std::string& path) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) throw FormatError({.where = path, .problem = "the state of the loop is not JSON"});
  LoopState loop;
  for (const auto& field : fields) {
    if (!json.contains(field.name) || !json[field.name].is_number())
      throw FormatError(
          {.where = path, .problem = fmt::format("the state of the loop has no number \"{}\"", field.name)});
    std::visit([&](auto member) { json[field.name].get_to(loop.*member); }, field.member);
  }
  return loop;
}

}  // namespace

void save_checkpoint(const std::string& path, const Checkpoint& checkpoint) {
  StateDict all;
  for (const auto& [name, tensor] : checkpoint.model) all.set(std::string(model_prefix) + name, tensor);
  for (const auto& [name, tensor] : checkpoint.optimizer) all.set(std::string(optimizer_prefix) + name, tensor);
  nlohmann::ordered_json json;
  for (const auto& field : fields)
    std::visit([&](auto member) { json[field.name] = checkpoint.loop.*member; }, field.member);
  formats::save_safetensors(path, all, {{metadata_key, json.dump()}});
}

Checkpoint load_checkpoint(const std::string& path) {
  auto file = formats::load_safetensors(path);
  const auto text = file.metadata.find(metadata_key);
  if (text == file.metadata.end())
    throw FormatError({.where = path,
                       .problem = "not a checkpoint of a training run",
                       .expected = fmt::format("\"{}\" in the metadata", metadata_key)});
  Checkpoint checkpoint{.model = {}, .optimizer = {}, .loop = parse_loop(text->second, path)};
  for (const auto& [name, tensor] : file.tensors) {
    if (name.starts_with(model_prefix)) checkpoint.model.set(name.substr(model_prefix.size()), tensor);
    if (name.starts_with(optimizer_prefix)) checkpoint.optimizer.set(name.substr(optimizer_prefix.size()), tensor);
  }
  return checkpoint;
}

}  // namespace tenon::train
