#include "tenon/formats/checkpoint.h"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/formats/safetensors.h"

namespace tenon::formats {
namespace {

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

bool is_file(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

// Tensor -> file, in the order of the names.
std::map<std::string, std::string> read_index(const std::filesystem::path& path) {
  using nlohmann::json;
  const auto fail = [&](std::string problem) -> FormatError {
    return FormatError({.where = path.string(), .problem = std::move(problem)});
  };
  json index;
  try {
    index = json::parse(read_text_file(path));
  } catch (const json::parse_error& error) {
    throw fail(fmt::format("not JSON: {} at byte {}", error.what(), error.byte));
  } catch (const json::exception& error) {  // a number beyond every type
    throw fail(fmt::format("not JSON that can be read: {}", error.what()));
  }
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
    throw fail("there is no weight_map");
  std::map<std::string, std::string> files;
  for (const auto& [name, file] : index["weight_map"].items()) {
    if (!file.is_string()) throw fail(fmt::format("the file of '{}' is not a text", name));
    const std::filesystem::path relative(file.get<std::string>());
    if (relative.empty() || relative.is_absolute() || relative.filename() != relative)
      throw fail(fmt::format("the file of '{}' is not in the folder: '{}'", name, relative.string()));
    files[name] = relative.string();
  }
  return files;
}

std::int64_t size_of(const Tensor& tensor) { return static_cast<std::int64_t>(tensor.data<std::byte>().size()); }

}  // namespace

StateDict load_checkpoint(const std::filesystem::path& folder) {
  if (is_file(folder / kSingle)) return load_safetensors(folder / kSingle).tensors;
  const auto index = folder / kIndex;
  if (!is_file(index))
    throw FileError({.where = folder.string(),
                     .problem = "no weights in the folder",
                     .expected = fmt::format("{} or {}", kSingle, kIndex)});
  StateDict all;
  std::map<std::string, StateDict> open;
  for (const auto& [name, file] : read_index(index)) {
    auto found = open.find(file);
    if (found == open.end()) found = open.emplace(file, load_safetensors(folder / file).tensors).first;
    const Tensor* tensor = found->second.find(name);
    if (tensor == nullptr)
      throw FormatError({.where = index.string(), .problem = fmt::format("'{}' is not in {}", name, file)});
    all.set(name, *tensor);
  }
  return all;
}

void save_checkpoint(const std::filesystem::path& folder, const StateDict& tensors, std::int64_t shard_bytes) {
  std::vector<StateDict> shards(1);
  std::int64_t filled = 0, total = 0;
  for (const auto& [name, tensor] : tensors) {
    const std::int64_t bytes = size_of(tensor);
    if (filled > 0 && filled + bytes > shard_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().set(name, tensor);
    filled += bytes, total += bytes;
  }
  std::filesystem::create_directories(folder);
  const std::map<std::string, std::string> metadata{{"format", "pt"}};
  if (shards.size() == 1) {
    save_safetensors(folder / kSingle, shards[0], metadata);
    std::filesystem::remove(folder / kIndex);
    return;
  }
  nlohmann::json index{{"metadata", {{"total_size", total}}}, {"weight_map", nlohmann::json::object()}};
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string file = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    save_safetensors(folder / file, shards[i], metadata);
    for (const auto& [name, tensor] : shards[i]) index["weight_map"][name] = file;
  }
  write_file_atomic(folder / kIndex, index.dump(2) + "\n");
  std::filesystem::remove(folder / kSingle);
}

}  // namespace tenon::formats
