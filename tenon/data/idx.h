// IDX: the format of the MNIST files, plain or compressed with gzip.
//
// Two zero bytes, a type code, the rank, one big-endian u32 for each extent, then the elements in
// row-major order, big-endian. All six element types are read: u8, i8, i16, i32, f32, f64.
#pragma once

#include <filesystem>
#include <span>
#include <string_view>

#include "tenon/data/host_array.h"

namespace tenon::data {

// Errors: FormatError naming `where` (the file) and the byte offset; a length that the file cannot hold
// is refused before anything is allocated.
HostArray read_idx(std::span<const std::byte> bytes, std::string_view where, const ReadLimits& limits = {});
// The same for a file. Errors: also FileError.
HostArray read_idx(const std::filesystem::path& path, const ReadLimits& limits = {});

// The bytes of an IDX file. Errors: DTypeError for a type that IDX does not have.
std::vector<std::byte> encode_idx(const HostArray& array);

}  // namespace tenon::data
