// SafeTensors: the file format of weights.
//
//   u64 header size (little endian) | JSON header, padded with spaces to 8 bytes | the elements, without gaps
//
// Reading maps the file; tensors point into the mapping and keep it alive (a tensor that the file did not
// align is copied). Everything is checked first, so a damaged or hostile file is a FormatError that names the
// tensor or the byte. Writing is atomic and deterministic: the bytes are those of the reference implementation.
// The dtypes that have a name there are in the table of safetensors.cpp; to add one: one row.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/tensor/state_dict.h"

namespace tenon::formats {

struct SafeTensors {
  StateDict tensors;  // in the order of the file
  std::map<std::string, std::string> metadata;
};

// The whole file. Errors: FileError, FormatError, UnsupportedError (a dtype that Tenon has not).
[[nodiscard]] SafeTensors load_safetensors(const std::filesystem::path& path);

// Tensors must be concrete and contiguous. Errors: FileError; UnsupportedError for a dtype that the format
// has not (i4, u4, i2); ValueError for a name or text that is not UTF-8.
void save_safetensors(const std::filesystem::path& path, const StateDict& tensors,
                      const std::map<std::string, std::string>& metadata = {});

// The layers below, for other containers of the same form and for tests.

// Bytes in memory that `owner` keeps alive; `where` names them in errors. `mapped`: they are a mapped file, so pages
// that had to be copied are given back.
[[nodiscard]] SafeTensors read_safetensors(std::span<const std::byte> bytes, const std::shared_ptr<const void>& owner,
                                           const std::string& where, bool mapped = false);

// One tensor of a checked header: where its elements lie in the file.
struct SafeTensorsEntry {
  std::string name;
  TensorType type;
  std::size_t begin = 0;
  std::size_t size = 0;
};
struct SafeTensorsHeader {
  std::vector<SafeTensorsEntry> entries;  // in the order of the file
  std::map<std::string, std::string> metadata;
};
[[nodiscard]] SafeTensorsHeader parse_safetensors_header(std::span<const std::byte> file, const std::string& where);
// The byte at which a checked header has the key of a tensor or of a text; nothing if it is written with escapes.
[[nodiscard]] std::optional<std::size_t> place_in_header(std::span<const std::byte> file, std::string_view key);

}  // namespace tenon::formats
