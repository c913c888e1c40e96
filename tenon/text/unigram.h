// Unigram (SentencePiece): of all ways to cut a word into tokens, the one whose scores add up to the most.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "tenon/text/piece.h"
#include "tenon/text/token_table.h"
#include "tenon/text/trie.h"

namespace tenon::text {

struct UnigramOptions {
  std::uint32_t unknown = no_token;
  bool byte_fallback = false;
  // SentencePiece's own arithmetic, in which the sum of scores is rounded to f32 at each step.
  bool single_precision = false;
  // Entries that stand in the vocabulary but are never chosen (control pieces). Empty: none.
  std::vector<bool> excluded;
  std::vector<bool> user_defined;  // always preferred
};

class Unigram {
 public:
  // `scores` by number. Errors: FormatError naming `where` for an unknown token beyond the vocabulary.
  Unigram(TokenTable vocabulary, std::vector<double> scores, UnigramOptions options, std::string_view where);

  // Errors: ValueError for an unknown character where there is no unknown token.
  void encode(std::string_view word, std::uint32_t offset, std::vector<WordToken>& tokens) const;
  [[nodiscard]] const TokenTable& vocabulary() const { return vocabulary_; }

 private:
  struct Best {
    double score = 0;
    std::uint32_t begin = no_token, id = no_token;
  };
  void find_best(std::string_view word, std::vector<Best>& best) const;
  void push_unknown(std::string_view part, std::uint32_t offset, std::vector<WordToken>& tokens) const;

  TokenTable vocabulary_;
  std::vector<double> scores_;
  UnigramOptions options_;
  Trie trie_;
  double unknown_score_ = 0;
  std::array<std::uint32_t, 256> fallback_ids_{};
};

}  // namespace tenon::text
