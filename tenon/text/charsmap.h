// Charsmap: SentencePiece's precompiled normalisation, a double-array trie of texts and what becomes of them.
//
//   u32 bytes of the trie (little endian) | the trie, u32 each | the replacements, each ended by a zero byte
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tenon::text {

class Charsmap {
 public:
  Charsmap() = default;
  // Errors: FormatError naming `where`.
  Charsmap(std::string_view blob, std::string_view where);

  [[nodiscard]] bool empty() const { return units_.empty(); }
  struct Match {
    std::size_t length = 0;  // 0: nothing in the map begins here
    std::string_view replacement;
  };
  [[nodiscard]] Match shortest(std::string_view text) const { return find(text, true); }
  [[nodiscard]] Match longest(std::string_view text) const { return find(text, false); }

 private:
  [[nodiscard]] Match find(std::string_view text, bool first) const;
  std::vector<std::uint32_t> units_;
  std::string replacements_;
};

}  // namespace tenon::text
