// GGUF: the file format of llama.cpp: typed metadata and tensors, of which many are quantised in blocks.
//
//   "GGUF" | u32 version | u64 tensors | u64 metadata entries | entries | tensor infos | padding | elements
//
// Reading maps the file. Tensors of plain types point into the mapping; quantised ones (Q4_0, Q8_0, Q4_K, Q6_K) are
// turned into f32. Versions 2 and 3, little-endian. To add a type: a row in the table of gguf.cpp.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tenon/tensor/state_dict.h"

namespace tenon::formats {

// Whole numbers of every width are i64 (u64 beyond that range is refused), f32 and f64 are double. Lists hold one kind.
struct GgufValue;
using GgufList = std::vector<GgufValue>;
struct GgufValue {
  std::variant<bool, std::int64_t, double, std::string, GgufList> data;
};

struct Gguf {
  std::vector<std::pair<std::string, GgufValue>> metadata;  // in the order of the file
  StateDict tensors;                                        // shapes as in PyTorch: the fastest axis last
  std::map<std::string, std::string> types;                 // how the file holds each tensor: "F32", "Q4_K"

  // The entry, or nullptr.
  [[nodiscard]] const GgufValue* find(std::string_view key) const;
};

// Errors: FileError, FormatError, UnsupportedError (another version or type).
[[nodiscard]] Gguf load_gguf(const std::filesystem::path& path);
// From memory that `owner` keeps alive (null: everything is copied). `mapped`: it is a mapped file, so pages that had
// to be copied are given back.
[[nodiscard]] Gguf read_gguf(std::span<const std::byte> bytes, const std::shared_ptr<const void>& owner,
                             std::string_view where, bool mapped = false);

struct GgufSaveOptions {
  bool quantize = false;  // f32 matrices whose rows are multiples of 32 become Q8_0
};
// Version 3. Errors: UnsupportedError for a dtype that the format has not; FileError.
void save_gguf(const std::filesystem::path& path, const Gguf& file, const GgufSaveOptions& options = {});

}  // namespace tenon::formats
