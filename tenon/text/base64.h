// Base64, as it stands in tokenizer files.
#pragma once

#include <string>
#include <string_view>

namespace tenon::text {

// Errors: FormatError naming `where` and the offset of a character that does not belong.
std::string decode_base64(std::string_view text, std::string_view where);

}  // namespace tenon::text
