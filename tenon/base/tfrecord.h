// TFRecord framing: u64 length | u32 masked_crc32c(length) | payload | u32 masked_crc32c(payload), little endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tenon {

// CRC-32C (Castagnoli), and the rotation that TFRecord applies to it.
[[nodiscard]] std::uint32_t crc32c(std::string_view bytes);
[[nodiscard]] std::uint32_t masked_crc32c(std::string_view bytes);

// One record: the payload with its length and both checksums.
[[nodiscard]] std::string tfrecord(std::string_view payload);
// The payloads of the first `most` records, in place. FormatError for one that is cut off or whose checksums are wrong.
[[nodiscard]] std::vector<std::span<const std::byte>> read_tfrecords(std::span<const std::byte> file,
                                                                     const std::string& where,
                                                                     std::size_t most = SIZE_MAX);

}  // namespace tenon
