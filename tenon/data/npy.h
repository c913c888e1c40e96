// NPY and NPZ: NumPy's own files.
//
// Read: versions 1 to 3, little- and big-endian, C and Fortran order, bool, integers of 8 to 64 bits,
// f16, f32, f64. Not read: object arrays (they hold pickles, which run code), structured and void
// types, complex numbers, strings and dates: an UnsupportedError says so. Arrays are written in version 1
// (2 when the header is long), little-endian, C order. bf16 and the storage types have no name in NPY:
// writing them is an error; SafeTensors keeps them.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/data/host_array.h"

namespace tenon::data {

// Errors: FormatError, UnsupportedError, and FileError where a path is given.
HostArray read_npy(std::span<const std::byte> bytes, std::string_view where, const ReadLimits& limits = {});
HostArray read_npy(const std::filesystem::path& path, const ReadLimits& limits = {});
// From a source that gives its `size` bytes in order: `next` fills what it is given. The elements go straight into the
// array, so nothing is in memory twice.
using NextBytes = std::function<void(std::span<std::byte>)>;
HostArray read_npy(std::size_t size, const NextBytes& next, std::string_view where, const ReadLimits& limits = {});

std::vector<std::byte> encode_npy(const HostArray& array);
void write_npy(const std::filesystem::path& path, const HostArray& array);

// Arrays by name, as np.savez writes them: "input" is the member "input.npy".
using NamedArrays = std::map<std::string, HostArray>;

// Stored and deflated members, ZIP64 too. Each member's checksum is verified; a member that claims more
// than deflate can expand to, or more than limits.max_bytes, is refused before it is unpacked.
NamedArrays read_npz(std::span<const std::byte> bytes, std::string_view where, const ReadLimits& limits = {});
// By path, the archive is read from the disk member by member.
NamedArrays read_npz(const std::filesystem::path& path, const ReadLimits& limits = {});

std::vector<std::byte> encode_npz(const NamedArrays& arrays, bool compress = false);
void write_npz(const std::filesystem::path& path, const NamedArrays& arrays, bool compress = false);

}  // namespace tenon::data
