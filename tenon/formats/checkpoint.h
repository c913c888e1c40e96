// Checkpoints of SafeTensors files in a folder: one file, or shards with an index that says which tensor is where.
//
//   model.safetensors
//   model.safetensors.index.json: {"metadata": {…}, "weight_map": {"layer.weight": "model-00001-of-00002.safetensors"}}
#pragma once

#include <cstdint>
#include <filesystem>

#include "tenon/tensor/state_dict.h"

namespace tenon::formats {

// All tensors; they point into the mapped files. Errors: FileError if the folder has neither file; FormatError for an
// index that names a file outside the folder, or a tensor that its file does not hold.
[[nodiscard]] StateDict load_checkpoint(const std::filesystem::path& folder);

// One file if the tensors fit into `shard_bytes`, else shards and an index. What an earlier save left under these names
// is replaced.
void save_checkpoint(const std::filesystem::path& folder, const StateDict& tensors,
                     std::int64_t shard_bytes = std::int64_t{5} << 30);

}  // namespace tenon::formats
