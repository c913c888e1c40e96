// PyTorch's weights: the ZIP files that torch.save writes (.pt, .pth, .bin), read without running anything.
//
// Such a file holds a pickle, which in Python may call any function. Here it is only looked at: an interpreter knows
// the opcodes that plain data needs, and of the names that a pickle may ask for it knows the list in torch_file.cpp
// (tensors, parameters, storages, ordered dictionaries). Anything else is an UnsupportedError that says what was asked
// for.
#pragma once

#include <filesystem>
#include <span>
#include <string_view>

#include "tenon/tensor/state_dict.h"

namespace tenon::formats {

// All tensors, by the path of keys to them: {"model": {"fc.weight": t}, "epoch": 3} gives "model.fc.weight". What is no
// tensor is left out. With `under`, only those below that key, and without it in their names.
// Errors: FileError, FormatError, UnsupportedError (names that are not on the list; the format from before 2020).
[[nodiscard]] StateDict load_torch(const std::filesystem::path& path, std::string_view under = {});

// From memory. `where` names the bytes in errors.
[[nodiscard]] StateDict read_torch(std::span<const std::byte> bytes, std::string_view where,
                                   std::string_view under = {});

}  // namespace tenon::formats
