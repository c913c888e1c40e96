#include "tenon/base/tfrecord.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <cstring>

#include "tenon/base/error.h"

namespace tenon {
namespace {

constexpr std::array<std::uint32_t, 256> crc_table = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0u);
    table[i] = crc;
  }
  return table;
}();

template <class T>
void put(std::string& out, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
}
std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
std::uint32_t fixed32(std::span<const std::byte> at) {
  std::uint32_t v = 0;
  std::memcpy(&v, at.data(), 4);
  return v;
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t crc = 0xffffffffu;
  for (const char c : bytes) crc = crc_table[(crc ^ static_cast<unsigned char>(c)) & 0xff] ^ (crc >> 8);
  return ~crc;
}

std::uint32_t masked_crc32c(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xa282ead8u; }

std::string tfrecord(std::string_view payload) {
  std::string out;
  put(out, std::uint64_t{payload.size()});
  put(out, masked_crc32c(out));
  out += payload;
  put(out, masked_crc32c(payload));
  return out;
}

std::vector<std::span<const std::byte>> read_tfrecords(std::span<const std::byte> file, const std::string& where,
                                                       std::size_t most) {
  std::vector<std::span<const std::byte>> out;
  const std::size_t size = file.size();
  const auto fail = [&](std::string_view what) {
    throw FormatError(
        {where, fmt::format("record {} at byte {} {}", out.size(), size - file.size(), what), {}, {}, {}});
  };
  while (!file.empty() && out.size() < most) {
    if (file.size() < 16) fail("is cut off");
    if (fixed32(file.subspan(8)) != masked_crc32c(text_of(file.first(8)))) fail("has a wrong checksum of its length");
    std::uint64_t length = 0;
    std::memcpy(&length, file.data(), 8);
    if (length > file.size() - 16) fail("is cut off");
    const auto payload = file.subspan(12, static_cast<std::size_t>(length));
    if (fixed32(file.subspan(12 + payload.size())) != masked_crc32c(text_of(payload))) fail("has a wrong checksum");
    out.push_back(payload);
    file = file.subspan(16 + payload.size());
  }
  return out;
}

}  // namespace tenon
