// Classes of characters in which the `tokenizers` package's tables differ from utf8proc's: tokenizers were trained with
// the former, so their ids depend on them. tools/unicode_tables.py makes the tables.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

namespace tenon::text {

struct CodeRange {
  std::uint32_t first, last;
};

// A class of characters is utf8proc's, and `more`, without `less`.
struct ClassChange {
  std::span<const CodeRange> more, less;  // in order
  [[nodiscard]] bool apply(char32_t c, bool ours) const {
    const auto list = ours ? less : more;
    const auto found = std::ranges::partition_point(list, [&](const CodeRange& r) { return r.last < c; });
    return ours != (found != list.end() && found->first <= c);
  }
};

extern const ClassChange control_change, punctuation_change, nonspacing_change, combining_change, numeric_change,
    word_change, no_script_change;

}  // namespace tenon::text
