#include "tenon/models/gguf_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <protozero/pbf_writer.hpp>

#include "tenon/base/error.h"
#include "tenon/text/tokenizer_parts.h"
#include "tenon/text/value.h"

namespace tenon::models {
namespace {

using formats::Gguf;
using formats::GgufList;
using formats::GgufValue;
using text::List;
using text::Object;

constexpr std::string_view kSpace = "\xe2\x96\x81";  // ▁

[[noreturn]] void fail(const std::string& where, std::string problem, std::string expected = {}) {
  throw FormatError({.where = where, .problem = std::move(problem), .expected = std::move(expected)});
}

// Entries of the metadata, whose names all begin alike.
class Entries {
 public:
  Entries(const Gguf& file, const std::string& where) : file_(file), where_(where) {}
  template <class T>
  [[nodiscard]] const T* find(std::string_view name) const {
    const GgufValue* value = file_.find(fmt::format("tokenizer.ggml.{}", name));
    if (value == nullptr) return nullptr;
    const T* found = std::get_if<T>(&value->data);
    if (found == nullptr) fail(where_, fmt::format("tokenizer.ggml.{} is of another kind than it should be", name));
    return found;
  }
  template <class T>
  [[nodiscard]] T get(std::string_view name, const T& fallback) const {
    const T* found = find<T>(name);
    return found == nullptr ? fallback : *found;
  }
  // One for each token.
  template <class T>
  [[nodiscard]] std::vector<T> list(std::string_view name, std::optional<std::size_t> size) const {
    const auto* found = find<GgufList>(name);
    if (found == nullptr) fail(where_, fmt::format("there is no tokenizer.ggml.{}", name));
    if (size && found->size() != *size)
      fail(where_, fmt::format("tokenizer.ggml.{} has another length than the tokens", name));
    std::vector<T> out;
    for (const GgufValue& value : *found) {
      const T* one = std::get_if<T>(&value.data);
      if (one == nullptr) fail(where_, fmt::format("tokenizer.ggml.{} holds values of another kind", name));
      out.push_back(*one);
    }
    return out;
  }
  [[nodiscard]] const std::string& where() const { return where_; }

 private:
  const Gguf& file_;
  const std::string& where_;
};

// The same as a SentencePiece model of the kind BPE: merges follow the scores, what has no token becomes bytes.
text::Tokenizer sentencepiece(const Entries& entries) {
  const auto tokens = entries.list<std::string>("tokens", {});
  const auto scores = entries.list<double>("scores", tokens.size());
  const auto kinds = entries.list<std::int64_t>("token_type", tokens.size());
  constexpr int kPieces = 1, kTrainer = 2, kNormalizer = 3;
  std::string bytes;
  protozero::pbf_writer model(bytes);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    protozero::pbf_writer piece(model, kPieces);
    piece.add_string(1, tokens[i]);
    piece.add_float(2, static_cast<float>(scores[i]));
    piece.add_enum(3, static_cast<std::int32_t>(kinds[i]));
  }
  {
    protozero::pbf_writer trainer(model, kTrainer);
    trainer.add_enum(3, 2);      // BPE
    trainer.add_bool(35, true);  // byte_fallback
  }
  {
    protozero::pbf_writer normalizer(model, kNormalizer);
    normalizer.add_bool(3, entries.get("add_space_prefix", true));
    normalizer.add_bool(4, entries.get("remove_extra_whitespaces", false));
    normalizer.add_bool(5, true);  // spaces become ▁
  }
  const text::SentencePieceReadOptions options{.add_bos = entries.get("add_bos_token", true),
                                               .add_eos = entries.get("add_eos_token", false)};
  const auto require = [&](bool wanted, std::string_view name, std::int64_t fallback, std::string_view text) {
    const std::int64_t id = entries.get(name, fallback);
    if (wanted &&
        (id < 0 || id >= static_cast<std::int64_t>(tokens.size()) || tokens[static_cast<std::size_t>(id)] != text))
      throw UnsupportedError({.where = entries.where(),
                              .problem = fmt::format("tokenizer.ggml.{} is another token than usual", name),
                              .expected = std::string(text)});
  };
  require(options.add_bos, "bos_token_id", 1, "<s>");
  require(options.add_eos, "eos_token_id", 2, "</s>");
  return text::read_sentencepiece(bytes, entries.where(), options);
}

// How text is cut before byte-level BPE, by the name in tokenizer.ggml.pre.
struct Cut {
  std::string_view name, pattern;  // without a pattern: GPT-2's, which ByteLevel has
  bool ignore_merges = false, nfc = false;
};
constexpr std::array kCuts{
    Cut{"gpt-2", ""},
    Cut{"llama-bpe",
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
        true},
    Cut{"qwen2",
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
        false, true},
};

Object byte_level(bool regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", regex}};
}

// [bos] text [eos], as the file says.
void add_edges(const Entries& entries, const std::vector<std::string>& tokens, Object& file) {
  List single{Object{{"Sequence", Object{{"id", "A"}, {"type_id", std::int64_t{0}}}}}};
  List pair{Object{{"Sequence", Object{{"id", "A"}, {"type_id", std::int64_t{0}}}}},
            Object{{"Sequence", Object{{"id", "B"}, {"type_id", std::int64_t{1}}}}}};
  Object special;
  const auto add = [&](std::string_view flag, std::string_view id_name, bool front) {
    if (!entries.get(flag, false)) return;
    const std::int64_t id = entries.get(id_name, std::int64_t{-1});
    if (id < 0 || id >= static_cast<std::int64_t>(tokens.size()))
      fail(entries.where(), fmt::format("tokenizer.ggml.{} is not a token", id_name));
    const std::string& token = tokens[static_cast<std::size_t>(id)];
    const Object part{{"SpecialToken", Object{{"id", token}, {"type_id", std::int64_t{0}}}}};
    for (List* list : {&single, &pair}) list->insert(front ? list->begin() : list->end(), text::Value(part));
    special.emplace_back(token,
                         Object{{"id", token}, {"ids", List{text::Value(id)}}, {"tokens", List{text::Value(token)}}});
  };
  add("add_bos_token", "bos_token_id", true);
  add("add_eos_token", "eos_token_id", false);
  if (special.empty()) return;
  file.emplace_back("post_processor", Object{{"type", "TemplateProcessing"},
                                             {"single", std::move(single)},
                                             {"pair", std::move(pair)},
                                             {"special_tokens", std::move(special)}});
}

// The tokenizer.json that says the same.
text::Tokenizer byte_level_bpe(const Entries& entries) {
  const std::string name = entries.get("pre", std::string("gpt-2"));
  const auto* cut = std::find_if(kCuts.begin(), kCuts.end(), [&](const Cut& c) { return c.name == name; });
  if (cut == kCuts.end())
    throw UnsupportedError({.where = entries.where(),
                            .problem = fmt::format("text that is cut in the way '{}'", name),
                            .expected = "gpt-2, llama-bpe or qwen2"});
  const auto tokens = entries.list<std::string>("tokens", {});
  const auto kinds = entries.list<std::int64_t>("token_type", tokens.size());
  Object vocabulary;
  List merges, added;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto id = static_cast<std::int64_t>(i);
    vocabulary.emplace_back(tokens[i], id);
    if (kinds[i] == 3 || kinds[i] == 4)  // control, and the user's own
      added.emplace_back(Object{{"id", id}, {"content", tokens[i]}, {"special", kinds[i] == 3}, {"normalized", false}});
  }
  for (std::string& merge : entries.list<std::string>("merges", {})) merges.emplace_back(std::move(merge));
  Object file{{"model", Object{{"type", "BPE"},
                               {"vocab", std::move(vocabulary)},
                               {"merges", std::move(merges)},
                               {"ignore_merges", cut->ignore_merges}}},
              {"decoder", byte_level(true)},
              {"added_tokens", std::move(added)}};
  if (cut->nfc) file.emplace_back("normalizer", Object{{"type", "NFC"}});
  if (cut->pattern.empty()) {
    file.emplace_back("pre_tokenizer", byte_level(true));
  } else {
    const Object split{{"type", "Split"},
                       {"pattern", Object{{"Regex", std::string(cut->pattern)}}},
                       {"behavior", "Isolated"},
                       {"invert", false}};
    file.emplace_back("pre_tokenizer", Object{{"type", "Sequence"}, {"pretokenizers", List{split, byte_level(false)}}});
  }
  add_edges(entries, tokens, file);
  return text::make_tokenizer(std::move(file), entries.where());
}

// In GGUF it is the beginning of a word that is marked, in vocab.txt what continues one.
text::Tokenizer word_piece(const Entries& entries) {
  std::string vocabulary;
  for (const std::string& token : entries.list<std::string>("tokens", {})) {
    if (token.find('\n') != std::string::npos) fail(entries.where(), "a token holds the end of a line");
    const bool named = token.starts_with('[') && token.ends_with(']');
    if (token.starts_with(kSpace)) {
      vocabulary += token.substr(kSpace.size());
    } else {
      vocabulary += named ? token : "##" + token;
    }
    vocabulary += '\n';
  }
  return text::read_wordpiece_file(vocabulary, entries.where());
}

}  // namespace

text::Tokenizer gguf_tokenizer(const Gguf& file, const std::string& where) {
  const Entries entries(file, where);
  const auto* model = entries.find<std::string>("model");
  if (model == nullptr) fail(where, "the file has no tokenizer", "tokenizer.ggml.model");
  if (*model == "llama") return sentencepiece(entries);
  if (*model == "gpt2") return byte_level_bpe(entries);
  if (*model == "bert") return word_piece(entries);
  throw UnsupportedError({.where = where,
                          .problem = fmt::format("a tokenizer of the kind '{}'", *model),
                          .expected = "llama, gpt2 or bert"});
}

}  // namespace tenon::models
