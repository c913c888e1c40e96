// SentencePiece's model file: a protobuf message with the pieces, their scores and how text is normalised.
// Field numbers stand beside their names as in sentencepiece_model.proto.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "tenon/base/error.h"
#include "tenon/base/proto_reader.h"
#include "tenon/data/utf8.h"
#include "tenon/text/tokenizer.h"
#include "tenon/text/tokenizer_parts.h"

namespace tenon::text {
namespace {

enum class Kind : std::uint8_t { Normal = 1, Unknown = 2, Control = 3, UserDefined = 4, Unused = 5, Byte = 6 };
struct PieceEntry {
  std::string text;
  float score = 0;
  Kind kind = Kind::Normal;
};
struct ModelFile {
  std::vector<PieceEntry> pieces;
  std::uint64_t model_type = 1;  // 1 Unigram, 2 BPE, 3 words, 4 characters
  bool byte_fallback = false, whitespace_as_suffix = false;
  std::string unknown_surface = " \xe2\x81\x87 ";
  std::string charsmap;
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
};

PieceEntry read_piece(ProtoReader r, std::string_view where) {
  PieceEntry piece;
  while (r.next()) {
    switch (r.tag()) {
      case 1:  // piece
        piece.text = r.text();
        data::require_utf8(piece.text, where);
        break;
      case 2:  // score
        piece.score = r.real();
        break;
      case 3: {  // type
        const std::uint64_t kind = r.natural();
        if (kind < 1 || kind > 6)
          throw FormatError(
              {.where = std::string(where),
               .problem = fmt::format("the piece '{}' is of no known type at byte {}", piece.text, r.offset()),
               .expected = "1 to 6",
               .got = std::to_string(kind)});
        piece.kind = static_cast<Kind>(kind);
        break;
      }
      default:
        r.skip();
    }
  }
  return piece;
}

void read_trainer(ProtoReader r, ModelFile& file) {
  while (r.next()) {
    switch (r.tag()) {
      case 3:
        file.model_type = r.natural();
        break;  // model_type
      case 24:
        file.whitespace_as_suffix = r.natural() != 0;
        break;  // treat_whitespace_as_suffix
      case 35:
        file.byte_fallback = r.natural() != 0;
        break;  // byte_fallback
      case 44:
        file.unknown_surface = r.view();
        break;  // unk_surface
      default:
        r.skip();
    }
  }
}

void read_normalizer(ProtoReader r, ModelFile& file) {
  while (r.next()) {
    switch (r.tag()) {
      case 2:
        file.charsmap = r.view();
        break;  // precompiled_charsmap
      case 3:
        file.add_dummy_prefix = r.natural() != 0;
        break;  // add_dummy_prefix
      case 4:
        file.remove_extra_whitespaces = r.natural() != 0;
        break;  // remove_extra_whitespaces
      case 5:
        file.escape_whitespaces = r.natural() != 0;
        break;  // escape_whitespaces
      default:
        r.skip();
    }
  }
}

ModelFile read_file(std::string_view bytes, std::string_view where) {
  ModelFile file;
  const ProtoSource source{bytes, where, "a SentencePiece model"};
  for (ProtoReader r(source); r.next();) {
    switch (r.tag()) {
      case 1:
        file.pieces.push_back(read_piece(r.message(), where));
        break;
      case 2:
        read_trainer(r.message(), file);
        break;
      case 3:
        read_normalizer(r.message(), file);
        break;
      default:
        r.skip();
    }
  }
  if (file.pieces.empty()) throw FormatError({.where = std::string(where), .problem = "the model has no pieces"});
  return file;
}

// Pieces by falling score: the best one has rank 0, equal scores have equal ranks.
std::vector<std::uint32_t> ranks_of(const std::vector<PieceEntry>& pieces) {
  std::vector<float> scores;
  for (const auto& piece : pieces) scores.push_back(piece.score);
  std::sort(scores.begin(), scores.end(), std::greater<>());
  scores.erase(std::unique(scores.begin(), scores.end()), scores.end());
  std::vector<std::uint32_t> ranks(pieces.size(), no_token);
  for (std::size_t id = 0; id < pieces.size(); ++id) {
    if (pieces[id].kind != Kind::Normal) continue;
    const auto found = std::lower_bound(scores.begin(), scores.end(), pieces[id].score, std::greater<>());
    ranks[id] = static_cast<std::uint32_t>(found - scores.begin());
  }
  return ranks;
}

TokenModel make_model(const ModelFile& file, std::uint32_t unknown, std::string_view where) {
  TokenTable table;
  std::vector<double> scores;
  std::vector<bool> excluded, user_defined;
  for (const auto& piece : file.pieces) {
    if (!std::isfinite(piece.score))
      throw FormatError(
          {.where = std::string(where), .problem = fmt::format("the score of '{}' is not finite", piece.text)});
    table.insert(piece.text, static_cast<std::uint32_t>(scores.size()), where);
    scores.push_back(piece.score);
    user_defined.push_back(piece.kind == Kind::UserDefined);
    excluded.push_back(piece.kind != Kind::Normal && piece.kind != Kind::UserDefined);
  }
  if (file.model_type == 1) {
    UnigramOptions options;
    options.unknown = unknown;
    options.byte_fallback = file.byte_fallback;
    options.single_precision = true;
    options.excluded = std::move(excluded);
    options.user_defined = std::move(user_defined);
    return Unigram(std::move(table), std::move(scores), std::move(options), where);
  }
  BpeOptions options;
  options.unknown = file.pieces[unknown].text;
  options.fuse_unknown = true;
  options.byte_fallback = file.byte_fallback;
  options.whole_words = std::move(user_defined);
  const auto merges = implied_merges(table, ranks_of(file.pieces), where);
  return Bpe(std::move(table), merges, std::move(options), where);
}

void add_around(TokenizerParts& parts, const ModelFile& file, const SentencePieceReadOptions& options) {
  const auto find = [&](std::string_view text) -> std::vector<TemplatePart> {
    for (std::size_t id = 0; id < file.pieces.size(); ++id)
      if (file.pieces[id].kind == Kind::Control && file.pieces[id].text == text)
        return {{-1, 0, {static_cast<std::int64_t>(id)}}};
    return {};
  };
  TemplateProcessor step;
  const auto begin = options.add_bos ? find("<s>") : std::vector<TemplatePart>{};
  const auto end = options.add_eos ? find("</s>") : std::vector<TemplatePart>{};
  if (begin.empty() && end.empty()) return;
  const auto add = [](std::vector<TemplatePart>& list, std::vector<TemplatePart> more, std::int64_t type_id) {
    for (auto& part : more) {
      part.type_id = type_id;
      list.push_back(part);
    }
  };
  add(step.single, begin, 0), add(step.single, {{0, 0, {}}}, 0), add(step.single, end, 0);
  step.pair = step.single;
  add(step.pair, begin, 1), add(step.pair, {{1, 1, {}}}, 1), add(step.pair, end, 1);
  parts.post_processor.emplace_back(std::move(step));
}

}  // namespace

Tokenizer read_sentencepiece(std::string_view model, std::string_view where, const SentencePieceReadOptions& options) {
  const ModelFile file = read_file(model, where);
  if (file.model_type != 1 && file.model_type != 2)
    throw UnsupportedError({.where = std::string(where),
                            .problem = "a SentencePiece model of words or characters",
                            .expected = "Unigram or BPE"});
  std::uint32_t unknown = no_token;
  std::vector<AddedToken> added;
  std::vector<std::pair<std::string_view, std::uint32_t>> user_defined;
  for (std::uint32_t id = 0; id < file.pieces.size(); ++id) {
    const PieceEntry& piece = file.pieces[id];
    if (piece.kind == Kind::Unknown && unknown == no_token) unknown = id;
    if (piece.kind == Kind::Control)
      added.push_back({.content = piece.text, .id = id, .normalized = false, .special = true});
    if (piece.kind == Kind::UserDefined) user_defined.emplace_back(piece.text, id);
  }
  if (unknown == no_token)
    throw FormatError({.where = std::string(where), .problem = "the model has no unknown piece"});
  auto parts = std::make_shared<TokenizerParts>(make_model(file, unknown, where));
  SentencePieceNormalizer normalizer;
  if (!file.charsmap.empty()) normalizer.map = std::make_shared<const Charsmap>(file.charsmap, where);
  if (!user_defined.empty()) normalizer.user_defined = std::make_shared<const Trie>(std::move(user_defined));
  normalizer.add_dummy_prefix = file.add_dummy_prefix;
  normalizer.remove_extra_whitespaces = file.remove_extra_whitespaces;
  normalizer.escape_whitespaces = file.escape_whitespaces;
  normalizer.whitespace_as_suffix = file.whitespace_as_suffix;
  if (file.model_type == 2 && normalizer.user_defined != nullptr)
    parts->pre_tokenizer.emplace_back(KnownTextPreTokenizer{normalizer.user_defined});
  SentencePieceDecoder decoder;
  decoder.unknown = file.pieces[unknown].text;
  decoder.unknown_surface = file.unknown_surface;
  decoder.drop_first_space = file.add_dummy_prefix || file.remove_extra_whitespaces;
  decoder.remove_extra_whitespaces = file.remove_extra_whitespaces;
  parts->normalizer.emplace_back(std::move(normalizer));
  parts->decoder.emplace_back(std::move(decoder));
  parts->has_decoder = true;
  parts->added = AddedTokens(std::move(added), {});
  add_around(*parts, file, options);
  parts->finish();
  return Tokenizer(std::move(parts));
}

}  // namespace tenon::text
