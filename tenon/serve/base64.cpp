#include "tenon/serve/base64.h"

#include <array>
#include <cstdint>

#include "tenon/serve/status.h"

namespace tenon::serve {
namespace {

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr std::array<int8_t, 256> make_values() {
  std::array<int8_t, 256> out{};
  for (auto& v : out) v = -1;
  for (size_t i = 0; i < kAlphabet.size(); ++i) out[static_cast<unsigned char>(kAlphabet[i])] = static_cast<int8_t>(i);
  out['-'] = 62;
  out['_'] = 63;
  return out;
}
constexpr auto kValues = make_values();

}  // namespace

std::string base64(std::string_view bytes) {
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t v = 0;
    for (size_t j = 0; j < 3; ++j) v = v << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0U);
    for (size_t j = 0; j < 4; ++j) out += i + j > bytes.size() ? '=' : kAlphabet[v >> (18 - 6 * j) & 63];
  }
  return out;
}

std::string from_base64(std::string_view text) {
  for (int i = 0; i < 2 && text.ends_with('='); ++i) text.remove_suffix(1);
  std::string out;
  out.reserve(text.size() * 3 / 4);
  uint32_t v = 0;
  int bits = 0;
  for (char c : text) {
    const int8_t d = kValues[static_cast<unsigned char>(c)];
    if (d < 0) throw RequestError(Code::InvalidArgument, "Unable to base64 decode");
    v = v << 6 | static_cast<uint32_t>(d);
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      out += static_cast<char>(v >> bits & 255);
    }
  }
  if (text.size() % 4 == 1) throw RequestError(Code::InvalidArgument, "Unable to base64 decode");
  return out;
}

}  // namespace tenon::serve
