// Base64 (RFC 4648, with padding), as JSON bodies carry bytes.
#pragma once

#include <string>
#include <string_view>

namespace tenon::serve {

std::string base64(std::string_view bytes);
// Missing padding is accepted, and the URL-safe alphabet. RequestError INVALID_ARGUMENT for anything else.
std::string from_base64(std::string_view text);

}  // namespace tenon::serve
