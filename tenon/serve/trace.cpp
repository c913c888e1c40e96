#include "tenon/serve/trace.h"

#include <algorithm>
#include <random>

#include "tenon/serve/random.h"

namespace tenon::serve {
namespace {

bool is_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}
bool all_zero(std::string_view text) { return text.find_first_not_of('0') == std::string_view::npos; }

// Versions above 00 may go on behind the flags, after a '-'; ff is none.
bool is_valid(std::string_view t) {
  if (t.size() < 55 || t[2] != '-' || t[35] != '-' || t[52] != '-') return false;
  const std::string_view version = t.substr(0, 2);
  if (!is_hex(version) || version == "ff") return false;
  if (version == "00" ? t.size() != 55 : t.size() > 55 && t[55] != '-') return false;
  const std::string_view trace = t.substr(3, 32), parent = t.substr(36, 16);
  return is_hex(trace) && is_hex(parent) && is_hex(t.substr(53, 2)) && !all_zero(trace) && !all_zero(parent);
}

void write_hex(char* to, uint64_t bits) {
  static constexpr auto kPairs = [] {
    std::array<std::array<char, 2>, 256> pairs{};
    for (size_t i = 0; i < pairs.size(); ++i) pairs[i] = {"0123456789abcdef"[i >> 4], "0123456789abcdef"[i & 15]};
    return pairs;
  }();
  for (int i = 14; i >= 0; i -= 2, bits >>= 8) std::copy_n(kPairs[bits & 255].data(), 2, to + i);
}

}  // namespace

TraceIds::TraceIds() {
  std::random_device random;
  seed_ = uint64_t{random()} << 32 | random();
}

Trace TraceIds::begin(std::string_view header) {
  const uint64_t n = next_.fetch_add(3, std::memory_order_relaxed);
  Trace out;
  char* text = out.text_.data();
  std::string_view("00-").copy(text, 3);
  text[35] = text[52] = '-';
  if (is_valid(header)) {
    header.substr(3, 32).copy(text + 3, 32);
    header.substr(36, 16).copy(out.parent_.data(), 16);
    // Only the lowest flag (sampled) means something in every version.
    text[53] = '0';
    text[54] = (header[54] >= 'a' ? header[54] - 'a' + 10 : header[54] - '0') & 1 ? '1' : '0';
  } else {
    write_hex(text + 3, random_bits(seed_, n));
    write_hex(text + 19, random_bits(seed_, n + 1) | 1);  // never all zero
    std::string_view("00").copy(text + 53, 2);
  }
  write_hex(text + 36, random_bits(seed_, n + 2) | 1);
  return out;
}

}  // namespace tenon::serve
