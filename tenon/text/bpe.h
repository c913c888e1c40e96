// Byte-pair encoding: a word begins as its characters (or bytes), and the pair of neighbours that comes first in the
// list of merges is joined, again and again.
//
// `bytes` is the byte-level form of GPT-2: the vocabulary writes bytes as characters, words arrive as raw bytes.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/text/piece.h"
#include "tenon/text/token_table.h"

namespace tenon::text {

struct Merge {
  std::uint32_t left = 0, right = 0, result = 0;
  std::uint32_t rank = 0;  // smaller is earlier
};

struct BpeOptions {
  std::optional<std::string> unknown;  // the token for what is not in the vocabulary; without one it is left out
  std::string continuing_prefix;       // written before every symbol of a word but the first
  std::string end_suffix;              // written behind the last one
  bool fuse_unknown = false;
  bool byte_fallback = false;  // "<0x0A>" for the bytes of an unknown character
  bool ignore_merges = false;  // a word in the vocabulary is its token
  bool bytes = false;
  std::vector<bool> whole_words;  // by number: a word that is this token is never cut
};

class Bpe {
 public:
  // Errors: FormatError naming `where` (the unknown token is not in the vocabulary).
  Bpe(TokenTable vocabulary, const std::vector<Merge>& merges, BpeOptions options, std::string_view where);

  // The tokens of one word. Positions are counted from `offset`.
  void encode(std::string_view word, std::uint32_t offset, std::vector<WordToken>& tokens) const;
  [[nodiscard]] const TokenTable& vocabulary() const { return vocabulary_; }

 private:
  struct Symbol {
    std::uint32_t id, length;
  };
  struct Pair {
    std::uint64_t key = ~std::uint64_t{0};
    std::uint32_t rank = 0, result = 0;
  };
  enum class Whole : std::uint8_t { Unknown, Yes, No };  // is a token of the vocabulary what its own text becomes?

  [[nodiscard]] const Pair* find_pair(std::uint32_t left, std::uint32_t right) const;
  void split(std::string_view word, std::vector<Symbol>& symbols) const;
  void split_bytes(std::string_view word, std::vector<Symbol>& symbols) const;
  void merge_short(std::vector<Symbol>& symbols) const;
  void merge_long(std::vector<Symbol>& symbols) const;

  TokenTable vocabulary_;
  TokenTable raw_;  // with options_.bytes: the same tokens by the bytes that they stand for
  BpeOptions options_;
  std::uint32_t unknown_ = no_token;
  std::array<std::uint32_t, 256> byte_ids_{};      // of single bytes, or of ASCII characters
  std::array<std::uint32_t, 256> fallback_ids_{};  // of "<0x00>" to "<0xFF>"
  std::vector<Pair> pairs_;                        // open addressing
  // Learnt as words come; each is written with the same value whoever learns it.
  mutable std::unique_ptr<std::atomic<Whole>[]> whole_;
};

// The merges that a vocabulary with priorities implies (SentencePiece, tiktoken): every way to put a token together
// from two others. `rank_of` gives a token's rank, or no_token for one that no merge makes. Errors: FormatError naming
// `where` for a token so long that this would not end.
std::vector<Merge> implied_merges(const TokenTable& vocabulary, const std::vector<std::uint32_t>& rank_of,
                                  std::string_view where);

}  // namespace tenon::text
