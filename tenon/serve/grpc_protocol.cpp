#include "tenon/serve/grpc_protocol.h"

#include <algorithm>
#include <charconv>

#include "tenon/serve/base64.h"

namespace tenon::serve {

std::optional<std::chrono::nanoseconds> read_grpc_timeout(std::string_view text) {
  if (text.size() < 2 || text.size() > 9) return {};
  int64_t number = 0;
  const char* digits_end = text.data() + text.size() - 1;
  const auto [stop, error] = std::from_chars(text.data(), digits_end, number);
  if (error != std::errc() || stop != digits_end || number < 0 || text[0] == '-') return {};
  switch (text.back()) {
    case 'H':  // 99999999 hours are more nanoseconds than there are
      return std::chrono::hours(std::min<int64_t>(number, 24 * 3650));
    case 'M':
      return std::chrono::minutes(std::min<int64_t>(number, int64_t{60} * 24 * 3650));
    case 'S':
      return std::chrono::seconds(number);
    case 'm':
      return std::chrono::milliseconds(number);
    case 'u':
      return std::chrono::microseconds(number);
    case 'n':
      return std::chrono::nanoseconds(number);
    default:
      return {};
  }
}

std::string percent_encoded(std::string_view message, size_t most) {
  if (message.size() > most) {
    while (most > 0 && (static_cast<unsigned char>(message[most]) & 0xC0U) == 0x80U) --most;
    message = message.substr(0, most);
  }
  std::string out;
  out.reserve(message.size());
  for (const char c : message) {
    if (c >= ' ' && c <= '~' && c != '%') {
      out += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out += '%';
    out += "0123456789ABCDEF"[byte >> 4];
    out += "0123456789ABCDEF"[byte & 15];
  }
  return out;
}

std::string metadata_value(std::string_view name, std::string_view value) {
  return name.ends_with("-bin") ? from_base64(value) : std::string(value);
}

bool is_reserved_metadata(std::string_view name) {
  return name.starts_with(":") || name.starts_with("grpc-") || name == "te" || name == "content-type" ||
         name == "content-length";
}

}  // namespace tenon::serve
