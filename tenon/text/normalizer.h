// Normalisers: what happens to the text before it is cut into words. The kinds are those of tokenizer.json.
//
// To add a kind: a struct here with its fields and `apply`, one line in NormalizerStep, one in tokenizer_json.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "tenon/text/aligned_text.h"
#include "tenon/text/charsmap.h"
#include "tenon/text/regex.h"
#include "tenon/text/trie.h"
#include "tenon/text/unicode.h"

namespace tenon::text {

struct BertNormalizer {
  bool clean_text = true;
  bool chinese_characters = true;  // spaces around each
  bool strip_accents = true;
  bool lowercase = true;
  void apply(AlignedText& text) const;
};
struct UnicodeNormalizer {
  NormalForm form = NormalForm::NFC;
  void apply(AlignedText& text) const;
};
struct LowercaseNormalizer {
  void apply(AlignedText& text) const;
};
struct StripNormalizer {
  bool left = true, right = true;
  void apply(AlignedText& text) const;
};
struct StripAccentsNormalizer {
  void apply(AlignedText& text) const;
};
struct PrependNormalizer {
  std::string content;
  void apply(AlignedText& text) const;
};
struct ReplaceNormalizer {
  Regex pattern;
  std::string content;
  void apply(AlignedText& text) const;
};
struct CharsmapNormalizer {
  std::shared_ptr<const Charsmap> map;
  void apply(AlignedText& text) const;
};
struct NmtNormalizer {  // control characters go, unusual spaces become plain
  void apply(AlignedText& text) const;
};
struct ByteCharactersNormalizer {  // bytes_as_characters.h
  void apply(AlignedText& text) const;
};
// All of SentencePiece's own normalisation: the map (longest match first), user-defined pieces left as they are, spaces
// collapsed, a space in front, "▁" for a space.
struct SentencePieceNormalizer {
  std::shared_ptr<const Charsmap> map;
  std::shared_ptr<const Trie> user_defined;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  bool whitespace_as_suffix = false;
  void apply(AlignedText& text) const;
};

using NormalizerStep = std::variant<BertNormalizer, UnicodeNormalizer, LowercaseNormalizer, StripNormalizer,
                                    StripAccentsNormalizer, PrependNormalizer, ReplaceNormalizer, CharsmapNormalizer,
                                    NmtNormalizer, ByteCharactersNormalizer, SentencePieceNormalizer>;

inline void normalize(const std::vector<NormalizerStep>& steps, AlignedText& text) {
  for (const auto& step : steps) std::visit([&](const auto& s) { s.apply(text); }, step);
}

}  // namespace tenon::text
