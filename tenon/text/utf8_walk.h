// Walking through text that is known to be UTF-8. Text from outside is checked first (data/utf8.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tenon::text {

inline bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xc0U) == 0x80U; }

// Bytes of the code point that begins with `lead`.
inline std::size_t code_point_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

// The code point at `at`, which is moved behind it.
inline char32_t next_code_point(std::string_view text, std::size_t& at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  if (lead < 0x80) {
    ++at;
    return lead;
  }
  const std::size_t length = code_point_length(text[at]);
  char32_t value = lead & (0x7fU >> length);
  for (std::size_t i = 1; i < length; ++i) value = value << 6 | (static_cast<unsigned char>(text[at + i]) & 0x3fU);
  at += length;
  return value;
}

// Where the code point before `at` begins; at > 0.
inline std::size_t previous_code_point(std::string_view text, std::size_t at) {
  do --at;
  while (at > 0 && is_continuation(text[at]));
  return at;
}

inline bool is_ascii(std::string_view text) {
  for (const char c : text)
    if (static_cast<unsigned char>(c) >= 0x80) return false;
  return true;
}

}  // namespace tenon::text
