// Pre-tokenisers: where the text is cut into words, and which separators stay. The kinds are those of tokenizer.json.
//
// To add a kind: a struct here with its fields and `apply`, one line in PreTokenizerStep, one in tokenizer_json.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "tenon/text/piece.h"
#include "tenon/text/regex.h"
#include "tenon/text/trie.h"

namespace tenon::text {

// What becomes of a separator: "a-b" is a, b | a, -, b | a-, b | a, -b. Contiguous: as Isolated, but neighbours are
// one.
enum class Separator : std::uint8_t { Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous };

struct SplitPreTokenizer {
  Regex pattern;
  Separator separator = Separator::Isolated;
  bool invert = false;  // what lies between the matches is the separator
  void apply(Piece& piece) const;
};
// Classes of characters that separate, without a pattern.
struct ClassPreTokenizer {
  enum class Kind : std::uint8_t { Whitespace, Punctuation, Digits, Character } kind = Kind::Whitespace;
  Separator separator = Separator::Removed;
  char32_t character = 0;
  void apply(Piece& piece) const;
};
struct ByteLevelPreTokenizer {
  bool add_prefix_space = true;
  bool use_regex = true;
  bool raw = false;  // the model takes bytes as they are; else they become characters
  Regex pattern;
  void apply(Piece& piece) const;
  static Regex gpt2_pattern();
};
struct MetaspacePreTokenizer {
  enum class Prepend : std::uint8_t { First, Never, Always } prepend = Prepend::Always;
  std::string replacement = "\xe2\x96\x81";
  bool split = true;
  void apply(Piece& piece) const;
};
struct UnicodeScriptsPreTokenizer {
  void apply(Piece& piece) const;
};
// Sets apart the texts that the trie knows, the longest first.
struct KnownTextPreTokenizer {
  std::shared_ptr<const Trie> texts;
  void apply(Piece& piece) const;
};
struct FixedLengthPreTokenizer {
  std::size_t length = 5;
  void apply(Piece& piece) const;
};

using PreTokenizerStep =
    std::variant<SplitPreTokenizer, ClassPreTokenizer, ByteLevelPreTokenizer, MetaspacePreTokenizer,
                 UnicodeScriptsPreTokenizer, KnownTextPreTokenizer, FixedLengthPreTokenizer>;

inline void pre_tokenize(const std::vector<PreTokenizerStep>& steps, Piece& piece) {
  for (const auto& step : steps) std::visit([&](const auto& s) { s.apply(piece); }, step);
}

}  // namespace tenon::text
