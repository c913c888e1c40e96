#include "tenon/text/word_piece.h"

#include <fmt/format.h>

#include "tenon/base/error.h"

namespace tenon::text {
namespace {

std::uint32_t unknown_token(const TokenTable& vocabulary, const std::string& unknown) {
  const std::uint32_t id = vocabulary.find(unknown);
  if (id == no_token)
    throw ValueError(
        {.where = "tokenizer", .problem = fmt::format("the unknown token '{}' is not in the vocabulary", unknown)});
  return id;
}

}  // namespace

WordPiece::WordPiece(TokenTable vocabulary, WordPieceOptions options)
    : vocabulary_(std::move(vocabulary)), options_(std::move(options)) {
  std::vector<std::pair<std::string_view, std::uint32_t>> entries;
  vocabulary_.for_each([&](std::string_view text, std::uint32_t id) { entries.emplace_back(text, id); });
  trie_ = Trie(std::move(entries));
  continuing_ = trie_.find(options_.continuing_prefix);
}

void WordPiece::encode(std::string_view word, std::uint32_t offset, std::vector<WordToken>& tokens) const {
  std::size_t characters = 0;
  for (const char c : word) characters += is_continuation(c) ? 0 : 1;
  const std::size_t before = tokens.size();
  bool unknown = characters > options_.longest_word;
  for (std::uint32_t begin = 0; begin < word.size() && !unknown;) {
    std::uint32_t node = begin == 0 ? Trie::root : continuing_;
    Trie::Match best;
    for (std::uint32_t end = begin; end < word.size() && node != Trie::nowhere;) {
      node = trie_.step(node, word[end++]);
      if (node == Trie::nowhere) break;
      const bool whole = end == word.size() || !is_continuation(word[end]);
      if (whole && trie_.value(node) != Trie::nowhere) best = {end - begin, trie_.value(node)};
    }
    unknown = best.length == 0;
    tokens.push_back({best.value, {offset + begin, offset + begin + best.length}});
    begin += best.length;
  }
  if (!unknown) return;
  tokens.resize(before);
  tokens.push_back(
      {unknown_token(vocabulary_, options_.unknown), {offset, offset + static_cast<std::uint32_t>(word.size())}});
}

void WordLevel::encode(std::string_view word, std::uint32_t offset, std::vector<WordToken>& tokens) const {
  std::uint32_t id = vocabulary_.find(word);
  if (id == no_token) id = unknown_token(vocabulary_, unknown_);
  tokens.push_back({id, {offset, offset + static_cast<std::uint32_t>(word.size())}});
}

}  // namespace tenon::text
