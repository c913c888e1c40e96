#include "tenon/text/bytes_as_characters.h"

#include "tenon/text/utf8_walk.h"

namespace tenon::text {

const std::array<char32_t, 256>& byte_characters() {
  static const auto table = [] {
    std::array<char32_t, 256> characters{};
    char32_t next = 256;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const bool visible = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
      characters[byte] = visible ? byte : next++;
    }
    return characters;
  }();
  return table;
}

int byte_of_character(char32_t c) {
  static const auto table = [] {
    std::array<int, 512> bytes{};
    bytes.fill(-1);
    for (int byte = 0; byte < 256; ++byte) bytes[byte_characters()[static_cast<std::size_t>(byte)]] = byte;
    return bytes;
  }();
  return c < table.size() ? table[c] : -1;
}

std::optional<std::string> bytes_of_characters(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const int byte = byte_of_character(next_code_point(text, at));
    if (byte < 0) return std::nullopt;
    bytes += static_cast<char>(byte);
  }
  return bytes;
}

}  // namespace tenon::text
