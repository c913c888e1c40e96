// HDF5 files, as Keras and h5py write them: every data set of plain numbers, and texts in attributes. The reader is our
// own (formats/hdf5/) and made for hostile bytes. Read: superblocks 0 to 3, old and new groups with few links and
// many, compact, contiguous and chunked data sets with every index (deflate, shuffle, Fletcher's checksum), all of
// h5py's default and most of libver='latest'. What is right but not read (other filters, virtual data sets, data in
// other files) is an UnsupportedError that says so. To read more: formats/hdf5/, one file for each part of the format.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/tensor/state_dict.h"

namespace tenon::formats {

struct Hdf5 {
  // By path, "layers/dense/vars/0", with the dtype that they have in the file. An object that several links name comes
  // once, by the first of its paths.
  StateDict tensors;
  // Texts and lists of texts in attributes: "layers/dense/vars@name".
  std::map<std::string, std::vector<std::string>> attributes;
};

struct Hdf5Options {
  // Structures of the newer forms carry checksums. A fuzzer, which would fail at each of them, goes on without.
  bool verify_checksums = true;
  // The bytes are a mapped file: pages that were copied or unpacked are given back to the system.
  bool mapped = false;
};

// The file is mapped; data sets in one piece stay there. Errors: FileError, FormatError, UnsupportedError.
[[nodiscard]] Hdf5 load_hdf5(const std::filesystem::path& path);
// With an owner that keeps the bytes alive, tensors may point into them; without, everything is copied.
[[nodiscard]] Hdf5 read_hdf5(std::span<const std::byte> bytes, std::string_view where,
                             const std::shared_ptr<const void>& owner = nullptr, const Hdf5Options& options = {});

}  // namespace tenon::formats
