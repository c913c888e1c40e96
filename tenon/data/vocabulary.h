// CharVocabulary: the characters of a text, numbered in code-point order (as sorted(set(text)) in Python).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tenon::data {

class CharVocabulary {
 public:
  CharVocabulary() = default;
  // Every character that occurs in `text` (UTF-8). Errors: FormatError naming `where`.
  explicit CharVocabulary(std::string_view text, std::string_view where = "CharVocabulary");

  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(characters_.size()); }
  // The characters in order, as UTF-8: CharVocabulary(v.characters()) equals v, so this is its saved form.
  [[nodiscard]] std::string characters() const;

  // Errors, naming `where`: ValueError for a character that is not in the vocabulary; FormatError unless UTF-8.
  [[nodiscard]] std::vector<std::int64_t> encode(std::string_view text,
                                                 std::string_view where = "CharVocabulary::encode") const;
  // Errors: IndexError for a token out of range.
  [[nodiscard]] std::string decode(std::span<const std::int64_t> tokens) const;

  bool operator==(const CharVocabulary&) const = default;

 private:
  std::vector<char32_t> characters_;  // sorted
};

}  // namespace tenon::data
