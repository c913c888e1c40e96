// GPT-2's way to write any bytes as printable text: each byte is one character, visible Latin-1 ones as themselves.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tenon::text {

// The character of each byte.
const std::array<char32_t, 256>& byte_characters();
// The byte that `c` stands for, or -1.
int byte_of_character(char32_t c);
// The bytes that `text` stands for; nothing if it holds a character that stands for none.
std::optional<std::string> bytes_of_characters(std::string_view text);

}  // namespace tenon::text
