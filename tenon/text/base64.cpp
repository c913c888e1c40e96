#include "tenon/text/base64.h"

#include <array>
#include <cstdint>

#include "tenon/data/byte_reader.h"

namespace tenon::text {

std::string decode_base64(std::string_view text, std::string_view where) {
  static constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  static const auto kValues = [] {
    std::array<int, 256> values{};
    values.fill(-1);
    for (std::size_t i = 0; i < kAlphabet.size(); ++i)
      values[static_cast<unsigned char>(kAlphabet[i])] = static_cast<int>(i);
    return values;
  }();
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  std::size_t length = text.size();
  for (int i = 0; i < 2 && length > 0 && text[length - 1] == '='; ++i) --length;
  std::uint32_t bits = 0;
  int count = 0;
  for (std::size_t at = 0; at < length; ++at) {
    const int value = kValues[static_cast<unsigned char>(text[at])];
    if (value < 0) data::throw_format_error(where, at, "not base64", "A-Z, a-z, 0-9, + or /");
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    count += 6;
    if (count >= 8) {
      count -= 8;
      bytes += static_cast<char>(bits >> count & 0xffU);
    }
  }
  if (length % 4 == 1) data::throw_format_error(where, length, "base64 ends within a byte");
  return bytes;
}

}  // namespace tenon::text
