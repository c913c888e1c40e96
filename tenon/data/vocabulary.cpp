#include "tenon/data/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/data/utf8.h"

namespace tenon::data {

CharVocabulary::CharVocabulary(std::string_view text, std::string_view where) : characters_(decode_utf8(text, where)) {
  std::ranges::sort(characters_);
  const auto repeated = std::ranges::unique(characters_);
  characters_.erase(repeated.begin(), repeated.end());
}

std::string CharVocabulary::characters() const {
  std::string text;
  for (const char32_t c : characters_) append_utf8(text, c);
  return text;
}

std::vector<std::int64_t> CharVocabulary::encode(std::string_view text, std::string_view where) const {
  std::vector<std::int64_t> tokens;
  tokens.reserve(text.size());
  for (const char32_t c : decode_utf8(text, where)) {
    const auto found = std::ranges::lower_bound(characters_, c);
    if (found == characters_.end() || *found != c) {
      std::string shown;
      append_utf8(shown, c);
      throw ValueError({std::string(where),
                        fmt::format("character {} of the text is not in the vocabulary", tokens.size()),
                        fmt::format("one of the {} characters of the training text", size()),
                        c < 0x20 ? fmt::format("U+{:04X}", static_cast<std::uint32_t>(c)) : fmt::format("'{}'", shown),
                        "leave it out, or train on a text that has it"});
    }
    tokens.push_back(found - characters_.begin());
  }
  return tokens;
}

std::string CharVocabulary::decode(std::span<const std::int64_t> tokens) const {
  std::string text;
  for (const std::int64_t token : tokens) {
    if (token < 0 || token >= size()) {
      throw IndexError(
          {"CharVocabulary::decode", "no such token", fmt::format("0 to {}", size() - 1), std::to_string(token), ""});
    }
    append_utf8(text, characters_[static_cast<std::size_t>(token)]);
  }
  return text;
}

}  // namespace tenon::data
