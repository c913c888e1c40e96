// GGUF: the file format of llama.cpp: typed metadata and tensors, of which many are quantised in blocks.
//
//   "GGUF" | u32 version | u64 tensors | u64 metadata entries | entries | tensor infos | padding | elements
//
// Reading maps the file. Tensors of plain types point into the mapping; quantised ones (Q4_0, Q8_0, Q4_K, Q6_K) are
// turned into f32, or kept packed. Versions 2 and 3, little-endian. To add a type: a row in the table of gguf.cpp.
//
// Memory: what is plain or kept packed stays in the file. What is unpacked is larger than the file by nature (f32 is
// 7.1 times Q4_0 and 3.8 times Q8_0) and takes its own size; the pages of the file are given back piece by piece.
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

// A quantised tensor as the file holds it: blocks of numbers that share scales.
struct GgufPacked {
  std::string type;  // "Q4_K"
  Shape shape;       // of the numbers
  Tensor rows;       // u8[rows, bytes of a row]; a row is the last axis
};

struct Gguf {
  std::vector<std::pair<std::string, GgufValue>> metadata;  // in the order of the file
  StateDict tensors;                                        // shapes as in PyTorch: the fastest axis last
  std::map<std::string, GgufPacked> packed;                 // with keep_packed, the quantised ones
  std::map<std::string, std::string> types;                 // how the file holds each tensor: "F32", "Q4_K"

  // The entry, or nullptr.
  [[nodiscard]] const GgufValue* find(std::string_view key) const;
};

struct GgufLoadOptions {
  bool keep_packed = false;  // quantised tensors come in `packed` and nothing of them is read
};
// Errors: FileError, FormatError, UnsupportedError (another version or type).
[[nodiscard]] Gguf load_gguf(const std::filesystem::path& path, const GgufLoadOptions& options = {});
// From memory that `owner` keeps alive (null: everything is copied). `mapped`: it is a mapped file, so pages that had
// to be copied are given back.
[[nodiscard]] Gguf read_gguf(std::span<const std::byte> bytes, const std::shared_ptr<const void>& owner,
                             std::string_view where, bool mapped = false, const GgufLoadOptions& options = {});

// The numbers, f32: all of them, or `count` rows from `first` on, as [count, extent of a row].
// Errors: ValueError for a type that is not quantised, or blocks that do not fit the shape; IndexError for other rows.
[[nodiscard]] Tensor unpack(const GgufPacked& packed);
[[nodiscard]] Tensor unpack_rows(const GgufPacked& packed, std::int64_t first, std::int64_t count);

struct GgufSaveOptions {
  bool quantize = false;  // f32 matrices whose rows are multiples of 32 become Q8_0
};
// Version 3; `packed` tensors are written as they are. Errors: UnsupportedError for a dtype that the format has not;
// FileError.
void save_gguf(const std::filesystem::path& path, const Gguf& file, const GgufSaveOptions& options = {});

}  // namespace tenon::formats
