#include "tenon/data/utf8.h"

#include <fmt/format.h>

#include "tenon/data/byte_reader.h"

namespace tenon::data {
namespace {

// One code point from the front of `rest`; length 0 if it is not UTF-8.
struct Decoded {
  char32_t value = 0;
  std::size_t length = 0;
};

Decoded decode_one(std::string_view rest) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(rest[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || rest.size() < length) return {};
  char32_t value = lead & (0x7fU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0U) != 0x80U) return {};
    value = value << 6 | (byte(i) & 0x3fU);
  }
  constexpr char32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (value < kSmallest[length] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) return {};
  return {value, length};
}

template <class Fn>
void for_each_code_point(std::string_view text, std::string_view where, Fn&& fn) {
  for (std::size_t at = 0; at < text.size();) {
    const Decoded next = decode_one(text.substr(at));
    if (next.length == 0) {
      throw_format_error(where, at, "the text is not UTF-8", "a UTF-8 sequence",
                         fmt::format("byte {:02X}", static_cast<unsigned char>(text[at])),
                         "iconv -f ISO-8859-1 -t UTF-8 FILE");
    }
    fn(next.value);
    at += next.length;
  }
}

}  // namespace

std::vector<char32_t> decode_utf8(std::string_view text, std::string_view where) {
  std::vector<char32_t> result;
  result.reserve(text.size());
  for_each_code_point(text, where, [&](char32_t c) { result.push_back(c); });
  return result;
}

void require_utf8(std::string_view text, std::string_view where) {
  for_each_code_point(text, where, [](char32_t) {});
}

void append_utf8(std::string& text, char32_t c) {
  const auto put = [&](char32_t bits) { text += static_cast<char>(bits); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xc0 | c >> 6);
    put(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    put(0xe0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3f));
    put(0x80 | (c & 0x3f));
  } else {
    put(0xf0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3f));
    put(0x80 | (c >> 6 & 0x3f));
    put(0x80 | (c & 0x3f));
  }
}

}  // namespace tenon::data
