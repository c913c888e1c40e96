// UTF-8, checked: for the text readers of this room.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tenon::data {

// The code points of `text`. Errors: FormatError naming `where` and the offset of the first byte that is
// not UTF-8 (overlong forms and surrogates are not).
std::vector<char32_t> decode_utf8(std::string_view text, std::string_view where);
// The same check without a result.
void require_utf8(std::string_view text, std::string_view where);

void append_utf8(std::string& text, char32_t code_point);

}  // namespace tenon::data
