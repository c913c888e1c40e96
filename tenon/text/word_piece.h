// WordPiece (BERT): the longest token that the word begins with, then the longest that the rest begins with, written
// with a prefix ("##"); a word that cannot be cut so is unknown as a whole. WordLevel: a word is a token or unknown.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/text/piece.h"
#include "tenon/text/token_table.h"
#include "tenon/text/trie.h"

namespace tenon::text {

struct WordPieceOptions {
  std::string unknown = "[UNK]";
  std::string continuing_prefix = "##";
  std::size_t longest_word = 100;  // in characters; a longer one is unknown
};

class WordPiece {
 public:
  WordPiece(TokenTable vocabulary, WordPieceOptions options);
  // Errors: ValueError for an unknown word where the unknown token is not in the vocabulary.
  void encode(std::string_view word, std::uint32_t offset, std::vector<WordToken>& tokens) const;
  [[nodiscard]] const TokenTable& vocabulary() const { return vocabulary_; }

 private:
  TokenTable vocabulary_;
  WordPieceOptions options_;
  Trie trie_;
  std::uint32_t continuing_ = Trie::nowhere;  // the node behind the prefix
};

class WordLevel {
 public:
  WordLevel(TokenTable vocabulary, std::string unknown)
      : vocabulary_(std::move(vocabulary)), unknown_(std::move(unknown)) {}
  // Errors: as WordPiece.
  void encode(std::string_view word, std::uint32_t offset, std::vector<WordToken>& tokens) const;
  [[nodiscard]] const TokenTable& vocabulary() const { return vocabulary_; }

 private:
  TokenTable vocabulary_;
  std::string unknown_;
};

}  // namespace tenon::text
