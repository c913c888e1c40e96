// Decoders: from tokens back to text. The kinds are those of tokenizer.json; each maps a list of texts to another.
//
// To add a kind: a struct here with its fields and `apply`, one line in DecoderStep, one in tokenizer_json.cpp.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "tenon/text/regex.h"

namespace tenon::text {

using Texts = std::vector<std::string>;

struct ByteLevelDecoder {
  Texts apply(const Texts& tokens) const;
};
struct WordPieceDecoder {
  std::string prefix = "##";
  bool cleanup = true;
  Texts apply(Texts tokens) const;
};
struct MetaspaceDecoder {
  std::string replacement = "\xe2\x96\x81";
  bool drop_first = true;
  Texts apply(Texts tokens) const;
};
struct BpeDecoder {
  std::string suffix = "</w>";
  Texts apply(Texts tokens) const;
};
struct ByteFallbackDecoder {
  Texts apply(Texts tokens) const;
};
struct FuseDecoder {
  Texts apply(const Texts& tokens) const;
};
struct StripDecoder {
  char32_t content = ' ';
  std::size_t start = 0, stop = 0;
  Texts apply(Texts tokens) const;
};
struct ReplaceDecoder {
  Regex pattern;
  std::string content;
  Texts apply(Texts tokens) const;
};
struct CtcDecoder {
  std::string pad_token = "<pad>", word_delimiter = "|";
  bool cleanup = true;
  Texts apply(Texts tokens) const;
};
// SentencePiece's own: bytes joined, the space in front gone, unknown pieces as " ⁇ ".
struct SentencePieceDecoder {
  std::string unknown = "<unk>";
  std::string unknown_surface = " \xe2\x81\x87 ";
  bool drop_first_space = true, remove_extra_whitespaces = true;
  Texts apply(const Texts& tokens) const;
};

using DecoderStep = std::variant<ByteLevelDecoder, WordPieceDecoder, MetaspaceDecoder, BpeDecoder, ByteFallbackDecoder,
                                 FuseDecoder, StripDecoder, ReplaceDecoder, CtcDecoder, SentencePieceDecoder>;

std::string decode(const std::vector<DecoderStep>& steps, Texts tokens);

// Text with U+FFFD in place of what is not UTF-8, one for each longest beginning of a character.
std::string replace_invalid_utf8(std::string_view bytes);

}  // namespace tenon::text
