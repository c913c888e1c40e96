// TokenizerParts: what the readers of files put together and a Tokenizer runs.
#pragma once

#include <optional>
#include <string_view>
#include <variant>
#include <vector>

#include "tenon/text/added_tokens.h"
#include "tenon/text/bpe.h"
#include "tenon/text/decoder.h"
#include "tenon/text/encoding.h"
#include "tenon/text/normalizer.h"
#include "tenon/text/post_processor.h"
#include "tenon/text/pre_tokenizer.h"
#include "tenon/text/unigram.h"
#include "tenon/text/word_piece.h"

namespace tenon::text {

using TokenModel = std::variant<Bpe, Unigram, WordPiece, WordLevel>;

struct TokenizerParts {
  explicit TokenizerParts(TokenModel the_model) : model(std::move(the_model)) {}

  TokenModel model;
  std::vector<NormalizerStep> normalizer;
  std::vector<PreTokenizerStep> pre_tokenizer;
  std::vector<PostProcessorStep> post_processor;
  std::vector<DecoderStep> decoder;
  bool has_decoder = false;  // without one, tokens are joined with spaces
  AddedTokens added;
  std::optional<Truncation> truncation;
  std::optional<Padding> padding;
  std::vector<Edges> edges;  // by number, if a post-processor trims offsets

  [[nodiscard]] const TokenTable& vocabulary() const {
    return std::visit([](const auto& m) -> const TokenTable& { return m.vocabulary(); }, model);
  }
  // Fills `edges`; call it when the rest is complete.
  void finish();
};

// The tokenizer that a tokenizer.json describes.
class Tokenizer;
class Value;
Tokenizer make_tokenizer(const Value& file, std::string_view where);

// White space and "Ġ" at the ends of a token's text.
Edges edges_of(std::string_view token);

}  // namespace tenon::text
