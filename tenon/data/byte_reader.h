// ByteReader: a cursor over the bytes of a file that knows its place, for the readers in this room.
//
// Every step is checked; leaving the bytes is a FormatError that names the file, the offset, what was
// being read, and how many bytes were wanted and left.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tenon::data {

// Throws FormatError{where, "PROBLEM at byte OFFSET", expected, got, hint}.
[[noreturn]] void throw_format_error(std::string_view where, std::size_t offset, std::string_view problem,
                                     std::string expected = {}, std::string got = {}, std::string hint = {});

class ByteReader {
 public:
  ByteReader(std::span<const std::byte> bytes, std::string_view where) : bytes_(bytes), where_(where) {}

  [[nodiscard]] std::size_t offset() const { return offset_; }
  [[nodiscard]] std::size_t remaining() const { return bytes_.size() - offset_; }
  [[nodiscard]] std::string_view where() const { return where_; }

  // The next `count` bytes; `what` names them in the error.
  std::span<const std::byte> take(std::size_t count, std::string_view what);
  std::uint8_t u8(std::string_view what);
  std::uint16_t u16_little(std::string_view what);
  std::uint32_t u32_little(std::string_view what);
  std::uint32_t u32_big(std::string_view what);

  // FormatError{problem at byte offset()}.
  [[noreturn]] void fail(std::string_view problem, std::string expected = {}, std::string got = {},
                         std::string hint = {}) const;

 private:
  std::span<const std::byte> bytes_;
  std::string_view where_;
  std::size_t offset_ = 0;
};

// The number of elements of a shape read from a file, or -1 when it exceeds max_elements (no overflow).
std::int64_t checked_count(std::span<const std::int64_t> shape, std::int64_t max_elements);

// Reverses the bytes of each element of `width` bytes, in place.
void swap_bytes(std::span<std::byte> bytes, std::size_t width);

// "[2, 3]"
std::string shape_text(std::span<const std::int64_t> shape);

}  // namespace tenon::data
