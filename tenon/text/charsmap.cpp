#include "tenon/text/charsmap.h"

#include "tenon/data/byte_reader.h"
#include "tenon/data/utf8.h"

namespace tenon::text {
namespace {

// The layout of a unit is that of Darts-clone.
bool has_leaf(std::uint32_t unit) { return (unit >> 8 & 1U) == 1; }
std::uint32_t value(std::uint32_t unit) { return unit & ((1U << 31) - 1); }
std::uint32_t label(std::uint32_t unit) { return unit & ((1U << 31) | 0xffU); }
std::uint32_t offset(std::uint32_t unit) { return unit >> 10 << ((unit & (1U << 9)) >> 6); }

}  // namespace

Charsmap::Charsmap(std::string_view blob, std::string_view where) {
  if (blob.empty()) return;
  data::ByteReader reader(std::as_bytes(std::span(blob)), where);
  const std::uint32_t size = reader.u32_little("the size of the character map");
  if (size % 4 != 0 || size < 1024 || size > reader.remaining())
    reader.fail("the character map's trie does not fit", "a multiple of 4 from 1024 on, within the map",
                std::to_string(size));
  units_.reserve(size / 4);
  for (std::uint32_t i = 0; i < size / 4; ++i) units_.push_back(reader.u32_little("the character map"));
  replacements_ = blob.substr(4 + size);
  data::require_utf8(replacements_, where);
}

Charsmap::Match Charsmap::find(std::string_view text, bool first) const {
  Match best;
  if (units_.empty()) return best;
  std::size_t node = offset(units_[0]);
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte == 0) break;
    node ^= byte;
    if (node >= units_.size() || label(units_[node]) != byte) break;
    const std::uint32_t unit = units_[node];
    node ^= offset(unit);
    if (!has_leaf(unit)) continue;
    const std::size_t begin = node < units_.size() ? value(units_[node]) : replacements_.size();
    if (begin >= replacements_.size()) continue;
    // A replacement that begins within a character would not be text.
    if ((static_cast<unsigned char>(replacements_[begin]) & 0xc0U) == 0x80U) continue;
    const std::size_t end = std::min(replacements_.find('\0', begin), replacements_.size());
    best = {i + 1, std::string_view(replacements_).substr(begin, end - begin)};
    if (first) break;
  }
  return best;
}

}  // namespace tenon::text
