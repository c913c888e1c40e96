// HDF5 files, as Keras writes its weights: every data set of plain numbers, and texts in attributes. libhdf5 reads
// them, and it is not made for hostile bytes: a damaged file can crash it. A .keras file is compared with its checksum
// first; take .h5 files only from where you trust.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/tensor/state_dict.h"

namespace tenon::formats {

struct Hdf5 {
  StateDict tensors;  // by path, "layers/dense/vars/0"; f32, f64 or i64
  // Texts and lists of texts in attributes: "layers/dense/vars@name".
  std::map<std::string, std::vector<std::string>> attributes;
};

// Errors: FileError, FormatError.
[[nodiscard]] Hdf5 load_hdf5(const std::filesystem::path& path);
[[nodiscard]] Hdf5 read_hdf5(std::span<const std::byte> bytes, std::string_view where);

}  // namespace tenon::formats
