#include "tenon/data/byte_reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/data/host_array.h"

namespace tenon::data {

void throw_format_error(std::string_view where, std::size_t offset, std::string_view problem, std::string expected,
                        std::string got, std::string hint) {
  throw FormatError({std::string(where), fmt::format("{} at byte {}", problem, offset), std::move(expected),
                     std::move(got), std::move(hint)});
}

void ByteReader::fail(std::string_view problem, std::string expected, std::string got, std::string hint) const {
  throw_format_error(where_, offset_, problem, std::move(expected), std::move(got), std::move(hint));
}

std::span<const std::byte> ByteReader::take(std::size_t count, std::string_view what) {
  if (count > remaining()) {
    fail(fmt::format("the file ends inside {}", what), fmt::format("{} bytes", count),
         fmt::format("{} bytes", remaining()));
  }
  const auto result = bytes_.subspan(offset_, count);
  offset_ += count;
  return result;
}

std::uint8_t ByteReader::u8(std::string_view what) { return std::to_integer<std::uint8_t>(take(1, what)[0]); }

std::uint16_t ByteReader::u16_little(std::string_view what) {
  const auto b = take(2, what);
  return static_cast<std::uint16_t>(std::to_integer<unsigned>(b[0]) | std::to_integer<unsigned>(b[1]) << 8);
}

std::uint32_t ByteReader::u32_little(std::string_view what) {
  std::uint32_t value = 0;
  const auto b = take(4, what);
  for (int i = 3; i >= 0; --i) value = value << 8 | std::to_integer<std::uint32_t>(b[static_cast<std::size_t>(i)]);
  return value;
}

std::uint32_t ByteReader::u32_big(std::string_view what) {
  std::uint32_t value = 0;
  for (const std::byte b : take(4, what)) value = value << 8 | std::to_integer<std::uint32_t>(b);
  return value;
}

std::int64_t checked_count(std::span<const std::int64_t> shape, std::int64_t max_elements) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape)  // the others must be countable even if there are no elements
    if (__builtin_mul_overflow(count, std::max<std::int64_t>(extent, 1), &count) || count > std::int64_t{1} << 56)
      return -1;
  if (std::ranges::find(shape, 0) != shape.end()) return 0;
  count = 1;
  for (const std::int64_t extent : shape) {
    if (extent < 0 || extent > max_elements / count) return -1;
    count *= extent;
  }
  return count;
}

void swap_bytes(std::span<std::byte> bytes, std::size_t width) {
  if (width < 2) return;
  for (std::size_t at = 0; at + width <= bytes.size(); at += width) std::ranges::reverse(bytes.subspan(at, width));
}

std::string shape_text(std::span<const std::int64_t> shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

std::int64_t HostArray::size() const {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return count;
}

void HostArray::require_dtype(DType wanted) const {
  if (dtype == wanted) return;
  throw DTypeError({"HostArray::values", "another element type is asked for than the array has",
                    std::string(name(dtype)), std::string(name(wanted)), ""});
}

}  // namespace tenon::data
