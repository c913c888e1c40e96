// The older files of tokenizers, and folders that hold any of them.
#include <fmt/format.h>

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/data/byte_reader.h"
#include "tenon/text/base64.h"
#include "tenon/text/bytes_as_characters.h"
#include "tenon/text/tokenizer.h"
#include "tenon/text/tokenizer_parts.h"
#include "tenon/text/value.h"

namespace tenon::text {
namespace {

// Calls fn(line, offset) for each line, without its end.
template <class Fn>
void for_each_line(std::string_view text, Fn&& fn) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = text.substr(at, end - at);
    if (line.ends_with('\r')) line.remove_suffix(1);
    fn(line, at);
    at = end + 1;
  }
}

std::string_view trimmed_end(std::string_view line) {
  while (!line.empty() && static_cast<unsigned char>(line.back()) <= ' ') line.remove_suffix(1);
  return line;
}

AddedToken special_token(std::string content, std::uint32_t id) {
  return {.content = std::move(content), .id = id, .normalized = false, .special = true};
}

// Those of `names` that the vocabulary has.
std::vector<AddedToken> special_tokens(const TokenTable& table, const std::vector<std::string>& names) {
  std::vector<AddedToken> tokens;
  for (const auto& name : names)
    if (const std::uint32_t id = table.find(name); id != no_token) tokens.push_back(special_token(name, id));
  return tokens;
}

// [first] text [last], [first] text [last] (roberta: [last]) text [last].
void add_template(TokenizerParts& parts, std::string_view first, std::string_view last, bool roberta) {
  const std::uint32_t begin = parts.vocabulary().find(first), end = parts.vocabulary().find(last);
  if (begin == no_token || end == no_token) return;
  const TemplatePart open{-1, 0, {begin}}, close{-1, 0, {end}}, text{0, 0, {}};
  TemplateProcessor step{{open, text, close}, {open, text, close}, roberta};
  if (roberta) step.pair.push_back(close);
  step.pair.push_back({1, roberta ? 0 : 1, {}});
  step.pair.push_back({-1, roberta ? 0 : 1, {end}});
  parts.post_processor.emplace_back(std::move(step));
}

std::string read_text(const std::filesystem::path& path) { return read_text_file(path); }

bool is_file(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

Tokenizer load_folder(const std::filesystem::path& folder) {
  if (is_file(folder / "tokenizer.json")) return load_tokenizer(folder / "tokenizer.json");
  Value config(Object{});
  const std::filesystem::path config_path = folder / "tokenizer_config.json";
  if (is_file(config_path)) config = parse_json(read_text(config_path), config_path.string());
  const std::string where = config_path.string();
  const std::string type = string_field(config, "tokenizer_class", "", where);
  if (const auto path = folder / "tokenizer.model"; is_file(path)) {
    SentencePieceReadOptions options;
    options.add_bos = bool_field(config, "add_bos_token", type.starts_with("Llama"), where);
    options.add_eos = bool_field(config, "add_eos_token", type.starts_with("T5"), where);
    return read_sentencepiece(read_text(path), path.string(), options);
  }
  if (const auto path = folder / "vocab.json"; is_file(path) && is_file(folder / "merges.txt")) {
    BpeFilesOptions options;
    options.add_prefix_space = bool_field(config, "add_prefix_space", false, where);
    options.roberta = type.starts_with("Roberta");
    if (options.roberta) options.special_tokens = {"<s>", "</s>", "<pad>", "<unk>", "<mask>"};
    return read_bpe_files(read_text(path), read_text(folder / "merges.txt"), path.string(), options);
  }
  if (const auto path = folder / "vocab.txt"; is_file(path)) {
    WordPieceFileOptions options;
    options.lowercase = bool_field(config, "do_lower_case", true, where);
    options.chinese_characters = bool_field(config, "tokenize_chinese_chars", true, where);
    if (find_field(config, "strip_accents") != nullptr)
      options.strip_accents = bool_field(config, "strip_accents", true, where);
    return read_wordpiece_file(read_text(path), path.string(), options);
  }
  throw FileError({.where = folder.string(),
                   .problem = "no tokenizer in the folder",
                   .expected = "tokenizer.json, tokenizer.model, vocab.json with merges.txt, or vocab.txt"});
}

}  // namespace

Tokenizer read_bpe_files(std::string_view vocabulary_json, std::string_view merges, std::string_view where,
                         const BpeFilesOptions& options) {
  // The same as a tokenizer.json with these parts.
  const Value vocabulary = parse_json(vocabulary_json, where);
  List list;
  for_each_line(merges, [&](std::string_view line, std::size_t) {
    if (!line.empty() && !line.starts_with("#version")) list.emplace_back(line);
  });
  const auto byte_level = [&](bool trim) {
    return Object{{"type", "ByteLevel"}, {"add_prefix_space", options.add_prefix_space}, {"trim_offsets", trim}};
  };
  List added;
  for (const auto& token : options.special_tokens) {
    const Value* id = find_field(vocabulary, token);
    if (id == nullptr) continue;
    // RoBERTa's mask takes the space in front of it along.
    const bool mask = options.roberta && token == "<mask>";
    added.emplace_back(
        Object{{"id", *id}, {"content", token}, {"special", true}, {"normalized", false}, {"lstrip", mask}});
  }
  Object file{{"model", Object{{"type", "BPE"}, {"vocab", vocabulary}, {"merges", std::move(list)}}},
              {"pre_tokenizer", byte_level(true)},
              {"decoder", byte_level(true)},
              {"added_tokens", std::move(added)}};
  const Value* begin = find_field(vocabulary, "<s>");
  const Value* end = find_field(vocabulary, "</s>");
  if (options.roberta && begin != nullptr && end != nullptr) {
    file.emplace_back("post_processor", Object{{"type", "RobertaProcessing"},
                                               {"cls", List{"<s>", *begin}},
                                               {"sep", List{"</s>", *end}},
                                               {"add_prefix_space", options.add_prefix_space},
                                               {"trim_offsets", true}});
  } else {
    file.emplace_back("post_processor", byte_level(false));
  }
  return make_tokenizer(std::move(file), where);
}

Tokenizer read_wordpiece_file(std::string_view vocabulary, std::string_view where,
                              const WordPieceFileOptions& options) {
  TokenTable table;
  std::uint32_t id = 0;
  for_each_line(vocabulary, [&](std::string_view line, std::size_t) { table.insert(trimmed_end(line), id++, where); });
  auto parts = std::make_shared<TokenizerParts>(WordPiece(std::move(table), {}));
  parts->normalizer.emplace_back(BertNormalizer{true, options.chinese_characters,
                                                options.strip_accents.value_or(options.lowercase), options.lowercase});
  parts->pre_tokenizer.emplace_back(ClassPreTokenizer{ClassPreTokenizer::Kind::Whitespace, Separator::Removed});
  parts->pre_tokenizer.emplace_back(ClassPreTokenizer{ClassPreTokenizer::Kind::Punctuation, Separator::Isolated});
  parts->decoder.emplace_back(WordPieceDecoder{});
  parts->has_decoder = true;
  add_template(*parts, "[CLS]", "[SEP]", false);
  parts->added = AddedTokens(special_tokens(parts->vocabulary(), {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}),
                             parts->normalizer);
  parts->finish();
  return Tokenizer(std::move(parts));
}

Tokenizer read_tiktoken(std::string_view ranks, std::string_view pattern,
                        const std::map<std::string, std::int64_t>& special_tokens, std::string_view where) {
  std::vector<std::pair<std::uint32_t, std::string>> entries;  // rank, bytes
  for_each_line(ranks, [&](std::string_view line, std::size_t offset) {
    if (line.empty()) return;
    const std::size_t space = line.find(' ');
    std::uint64_t rank = 0;
    bool valid = space != std::string_view::npos && space + 1 < line.size() && line.size() - space < 11;
    for (std::size_t i = valid ? space + 1 : line.size(); i < line.size(); ++i) {
      valid &= line[i] >= '0' && line[i] <= '9';
      rank = rank * 10 + static_cast<std::uint64_t>(line[i] - '0');
    }
    if (!valid || rank >= no_token) data::throw_format_error(where, offset, "not a token and its rank");
    entries.emplace_back(static_cast<std::uint32_t>(rank), decode_base64(line.substr(0, space), where));
  });
  std::sort(entries.begin(), entries.end());
  // Tokens are kept as characters that stand for bytes; merges are found among the bytes themselves.
  TokenTable table, raw;
  for (const auto& [rank, bytes] : entries) {
    std::string text;
    for (const char byte : bytes) append_code_point(text, byte_characters()[static_cast<unsigned char>(byte)]);
    table.insert(text, rank, where);
    raw.insert(bytes, rank, where);
  }
  std::vector<std::uint32_t> rank_of(raw.id_limit());
  for (std::uint32_t id = 0; id < rank_of.size(); ++id) rank_of[id] = id;
  BpeOptions options;
  options.bytes = options.ignore_merges = true;
  const auto merges = implied_merges(raw, rank_of, where);
  auto parts = std::make_shared<TokenizerParts>(Bpe(std::move(table), merges, std::move(options), where));
  parts->pre_tokenizer.emplace_back(SplitPreTokenizer{Regex(pattern, where), Separator::Removed, true});
  parts->decoder.emplace_back(ByteLevelDecoder{});
  parts->has_decoder = true;
  std::vector<AddedToken> added;
  for (const auto& [content, id] : special_tokens) {
    if (id < 0 || id >= no_token)
      throw ValueError({.where = std::string(where), .problem = fmt::format("'{}' has no valid number", content)});
    added.push_back(special_token(content, static_cast<std::uint32_t>(id)));
  }
  parts->added = AddedTokens(std::move(added), parts->normalizer);
  parts->finish();
  return Tokenizer(std::move(parts));
}

Tokenizer load_tokenizer(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return load_folder(path);
  const std::string bytes = read_text(path);
  const std::size_t first = bytes.find_first_not_of(" \t\r\n");
  if (first != std::string::npos && bytes[first] == '{') return read_tokenizer_json(bytes, path.string());
  if (path.extension() == ".txt") return read_wordpiece_file(bytes, path.string());
  return read_sentencepiece(bytes, path.string());
}

}  // namespace tenon::text
