// What flows through a tokenizer: a stretch of text, cut into words, becomes tokens.
#pragma once

#include <cstdint>
#include <vector>

#include "tenon/text/aligned_text.h"
#include "tenon/text/token_table.h"

namespace tenon::text {

// A stretch of the input: text to be cut, or an added token that was found there.
struct Piece {
  AlignedText text;
  std::vector<Span> words;         // ranges of `text`, in order
  std::uint32_t token = no_token;  // an added token
};

// One token of a word: the bytes of the piece's text that it covers.
struct WordToken {
  std::uint32_t id = 0;
  Span bytes;
};

}  // namespace tenon::text
