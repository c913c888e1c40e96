// tokenizer.json: each part names its type and its fields. A type that is not known is an UnsupportedError that says
// so.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>

#include "tenon/base/error.h"
#include "tenon/data/utf8.h"
#include "tenon/text/base64.h"
#include "tenon/text/tokenizer.h"
#include "tenon/text/tokenizer_parts.h"
#include "tenon/text/value.h"

namespace tenon::text {
namespace {

constexpr int kDeepest = 16;  // sequences within sequences
constexpr std::int64_t kLargestId = 1 << 28;

// What a reader needs beside the value: the file, for errors, and how deep it is.
struct Place {
  std::string_view where;
  int depth = 0;
  [[nodiscard]] Place deeper() const {
    if (depth >= kDeepest)
      throw FormatError({.where = std::string(where), .problem = "sequences are nested too deeply"});
    return {where, depth + 1};
  }
};

template <class Step>
using Reader = std::function<void(const Value&, const Place&, std::vector<Step>&)>;

// Reads a part by its type; "Sequence" holds others in the field `parts`.
template <class Step>
void read_steps(const Value& value, const Place& place, std::string_view what, std::string_view parts,
                const std::map<std::string, Reader<Step>, std::less<>>& readers, std::vector<Step>& steps) {
  const std::string type = as_string(get_field(value, "type", place.where), "type", place.where);
  if (type == "Sequence") {
    for (const auto& part : list_field(value, parts, place.where))
      read_steps(part, place.deeper(), what, parts, readers, steps);
    return;
  }
  const auto found = readers.find(type);
  if (found == readers.end())
    throw UnsupportedError(
        {.where = std::string(place.where), .problem = fmt::format("there is no {} of type '{}'", what, type)});
  found->second(value, place, steps);
}

// {"String": …} or {"Regex": …}, or just a string.
Regex read_pattern(const Value& object, std::string_view where) {
  const Value& value = get_field(object, "pattern", where);
  if (value.is_string()) return Regex::literal(value.string());
  if (const Value* text = find_field(value, "String")) return Regex::literal(as_string(*text, "pattern", where));
  return {as_string(get_field(value, "Regex", where), "pattern", where), where};
}

char32_t read_character(const Value& object, std::string_view field, std::string_view where) {
  const std::string text = as_string(get_field(object, field, where), field, where);
  const auto characters = data::decode_utf8(text, where);
  if (characters.size() != 1) fail_field(where, field, "one character", find_field(object, field));
  return characters[0];
}

Separator read_separator(const Value& object, std::string_view fallback, std::string_view where) {
  static const std::map<std::string, Separator, std::less<>> names{
      {"Removed", Separator::Removed},
      {"Isolated", Separator::Isolated},
      {"MergedWithPrevious", Separator::MergedWithPrevious},
      {"MergedWithNext", Separator::MergedWithNext},
      {"Contiguous", Separator::Contiguous}};
  const auto found = names.find(string_field(object, "behavior", std::string(fallback), where));
  if (found == names.end()) fail_field(where, "behavior", "a way to treat separators", find_field(object, "behavior"));
  return found->second;
}

void read_normalizer(const Value& value, const Place& place, std::vector<NormalizerStep>& steps) {
  using Steps = std::vector<NormalizerStep>;
  const auto form = [](NormalForm which) {
    return [which](const Value&, const Place&, Steps& out) { out.emplace_back(UnicodeNormalizer{which}); };
  };
  static const std::map<std::string, Reader<NormalizerStep>, std::less<>> readers{
      {"BertNormalizer",
       [](const Value& v, const Place& p, Steps& out) {
         const bool low = bool_field(v, "lowercase", true, p.where);
         out.emplace_back(BertNormalizer{bool_field(v, "clean_text", true, p.where),
                                         bool_field(v, "handle_chinese_chars", true, p.where),
                                         bool_field(v, "strip_accents", low, p.where), low});
       }},
      {"NFC", form(NormalForm::NFC)},
      {"NFD", form(NormalForm::NFD)},
      {"NFKC", form(NormalForm::NFKC)},
      {"NFKD", form(NormalForm::NFKD)},
      {"Lowercase", [](const Value&, const Place&, Steps& out) { out.emplace_back(LowercaseNormalizer{}); }},
      {"Strip",
       [](const Value& v, const Place& p, Steps& out) {
         out.emplace_back(
             StripNormalizer{bool_field(v, "strip_left", true, p.where), bool_field(v, "strip_right", true, p.where)});
       }},
      {"StripAccents", [](const Value&, const Place&, Steps& out) { out.emplace_back(StripAccentsNormalizer{}); }},
      {"Prepend", [](const Value& v, const Place& p,
                     Steps& out) { out.emplace_back(PrependNormalizer{string_field(v, "prepend", "", p.where)}); }},
      {"Replace",
       [](const Value& v, const Place& p, Steps& out) {
         out.emplace_back(ReplaceNormalizer{read_pattern(v, p.where), string_field(v, "content", "", p.where)});
       }},
      {"Precompiled",
       [](const Value& v, const Place& p, Steps& out) {
         const std::string blob = decode_base64(string_field(v, "precompiled_charsmap", "", p.where), p.where);
         out.emplace_back(CharsmapNormalizer{std::make_shared<const Charsmap>(blob, p.where)});
       }},
      {"Nmt", [](const Value&, const Place&, Steps& out) { out.emplace_back(NmtNormalizer{}); }},
      {"ByteLevel", [](const Value&, const Place&, Steps& out) { out.emplace_back(ByteCharactersNormalizer{}); }},
  };
  read_steps(value, place, "normaliser", "normalizers", readers, steps);
}

MetaspacePreTokenizer read_metaspace(const Value& v, std::string_view where) {
  MetaspacePreTokenizer step;
  step.replacement = string_field(v, "replacement", step.replacement, where);
  if (step.replacement.empty()) fail_field(where, "replacement", "a character", find_field(v, "replacement"));
  const std::string scheme = string_field(v, "prepend_scheme", "always", where);
  using Prepend = MetaspacePreTokenizer::Prepend;
  if (scheme != "always" && scheme != "first" && scheme != "never")
    fail_field(where, "prepend_scheme", "always, first or never", find_field(v, "prepend_scheme"));
  step.prepend = scheme == "always" ? Prepend::Always : scheme == "first" ? Prepend::First : Prepend::Never;
  if (!bool_field(v, "add_prefix_space", true, where)) step.prepend = Prepend::Never;
  step.split = bool_field(v, "split", true, where);
  return step;
}

void read_pre_tokenizer(const Value& value, const Place& place, std::vector<PreTokenizerStep>& steps) {
  using Steps = std::vector<PreTokenizerStep>;
  using Kind = ClassPreTokenizer::Kind;
  static const std::map<std::string, Reader<PreTokenizerStep>, std::less<>> readers{
      {"BertPreTokenizer",
       [](const Value&, const Place&, Steps& out) {
         out.emplace_back(ClassPreTokenizer{Kind::Whitespace, Separator::Removed});
         out.emplace_back(ClassPreTokenizer{Kind::Punctuation, Separator::Isolated});
       }},
      {"ByteLevel",
       [](const Value& v, const Place& p, Steps& out) {
         out.emplace_back(ByteLevelPreTokenizer{bool_field(v, "add_prefix_space", true, p.where),
                                                bool_field(v, "use_regex", true, p.where), false,
                                                ByteLevelPreTokenizer::gpt2_pattern()});
       }},
      {"CharDelimiterSplit",
       [](const Value& v, const Place& p, Steps& out) {
         out.emplace_back(
             ClassPreTokenizer{Kind::Character, Separator::Removed, read_character(v, "delimiter", p.where)});
       }},
      {"Digits",
       [](const Value& v, const Place& p, Steps& out) {
         const bool each = bool_field(v, "individual_digits", false, p.where);
         out.emplace_back(ClassPreTokenizer{Kind::Digits, each ? Separator::Isolated : Separator::Contiguous});
       }},
      {"FixedLength",
       [](const Value& v, const Place& p, Steps& out) {
         const std::int64_t length = count_field(v, "length", 5, 1 << 20, p.where);
         if (length == 0) fail_field(p.where, "length", "at least 1", find_field(v, "length"));
         out.emplace_back(FixedLengthPreTokenizer{static_cast<std::size_t>(length)});
       }},
      {"Metaspace", [](const Value& v, const Place& p, Steps& out) { out.emplace_back(read_metaspace(v, p.where)); }},
      {"Punctuation",
       [](const Value& v, const Place& p, Steps& out) {
         out.emplace_back(ClassPreTokenizer{Kind::Punctuation, read_separator(v, "Isolated", p.where)});
       }},
      {"Split",
       [](const Value& v, const Place& p, Steps& out) {
         out.emplace_back(SplitPreTokenizer{read_pattern(v, p.where), read_separator(v, "Isolated", p.where),
                                            bool_field(v, "invert", false, p.where)});
       }},
      {"UnicodeScripts",
       [](const Value&, const Place&, Steps& out) { out.emplace_back(UnicodeScriptsPreTokenizer{}); }},
      {"Whitespace",
       [](const Value&, const Place& p, Steps& out) {
         out.emplace_back(SplitPreTokenizer{
             Regex(
                 R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}]+|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}\s]+)",
                 p.where),
             Separator::Removed, true});
       }},
      {"WhitespaceSplit",
       [](const Value&, const Place&, Steps& out) {
         out.emplace_back(ClassPreTokenizer{Kind::Whitespace, Separator::Removed});
       }},
  };
  read_steps(value, place, "pre-tokeniser", "pretokenizers", readers, steps);
}

// ["[SEP]", 102]
std::int64_t read_token_pair(const Value& object, std::string_view field, std::string_view where) {
  const Value& pair = get_field(object, field, where);
  if (!pair.is_list() || pair.list().size() != 2) fail_field(where, field, "a token and its number", &pair);
  return as_count(pair.list()[1], field, kLargestId, where);
}

std::vector<TemplatePart> read_template(const Value& object, std::string_view field, std::string_view where) {
  const List& list = list_field(object, field, where);
  const Value* special = find_field(object, "special_tokens");
  std::vector<TemplatePart> parts;
  for (const auto& item : list) {
    TemplatePart part;
    if (const Value* sequence = find_field(item, "Sequence")) {
      const std::string id = string_field(*sequence, "id", "A", where);
      if (id != "A" && id != "B") fail_field(where, "id", "A or B", sequence);
      part.sequence = id == "A" ? 0 : 1;
      part.type_id = count_field(*sequence, "type_id", 0, kLargestId, where);
    } else {
      const Value& token = get_field(item, "SpecialToken", where);
      const std::string id = as_string(get_field(token, "id", where), "id", where);
      part.type_id = count_field(token, "type_id", 0, kLargestId, where);
      const Value* entry = special == nullptr ? nullptr : find_field(*special, id);
      if (entry == nullptr)
        throw FormatError({.where = std::string(where),
                           .problem = fmt::format("the template uses '{}', which is not in its special_tokens", id)});
      for (const auto& number : list_field(*entry, "ids", where))
        part.ids.push_back(as_count(number, "ids", kLargestId, where));
    }
    parts.push_back(std::move(part));
  }
  return parts;
}

TemplateProcessor read_pair_template(const Value& v, std::string_view where, bool roberta) {
  const std::int64_t cls = read_token_pair(v, "cls", where), sep = read_token_pair(v, "sep", where);
  const TemplatePart first{0, 0, {}}, second{1, roberta ? 0 : 1, {}};
  const TemplatePart begin{-1, 0, {cls}}, end{-1, 0, {sep}};
  TemplateProcessor step{{begin, first, end}, {begin, first, end}, roberta};
  if (roberta) step.pair.push_back(end);
  step.pair.push_back(second);
  step.pair.push_back({-1, roberta ? 0 : 1, {sep}});
  return step;
}

void read_post_processor(const Value& value, const Place& place, std::vector<PostProcessorStep>& steps) {
  using Steps = std::vector<PostProcessorStep>;
  const auto trim = [](const Value& v, const Place& p, Steps& out) {
    if (bool_field(v, "trim_offsets", true, p.where))
      out.emplace_back(TrimOffsets{bool_field(v, "add_prefix_space", true, p.where)});
  };
  static const std::map<std::string, Reader<PostProcessorStep>, std::less<>> readers{
      {"ByteLevel", trim},
      {"BertProcessing",
       [](const Value& v, const Place& p, Steps& out) { out.emplace_back(read_pair_template(v, p.where, false)); }},
      {"RobertaProcessing",
       [trim](const Value& v, const Place& p, Steps& out) {
         trim(v, p, out);
         out.emplace_back(read_pair_template(v, p.where, true));
       }},
      {"TemplateProcessing",
       [](const Value& v, const Place& p, Steps& out) {
         out.emplace_back(TemplateProcessor{read_template(v, "single", p.where), read_template(v, "pair", p.where)});
       }},
  };
  read_steps(value, place, "post-processor", "processors", readers, steps);
}

void read_decoder(const Value& value, const Place& place, std::vector<DecoderStep>& steps) {
  using Steps = std::vector<DecoderStep>;
  const auto count = [](const Value& v, std::string_view field, const Place& p) {
    return static_cast<std::size_t>(count_field(v, field, 0, 1 << 20, p.where));
  };
  static const std::map<std::string, Reader<DecoderStep>, std::less<>> readers{
      {"ByteLevel", [](const Value&, const Place&, Steps& out) { out.emplace_back(ByteLevelDecoder{}); }},
      {"WordPiece",
       [](const Value& v, const Place& p, Steps& out) {
         out.emplace_back(
             WordPieceDecoder{string_field(v, "prefix", "##", p.where), bool_field(v, "cleanup", true, p.where)});
       }},
      {"Metaspace",
       [](const Value& v, const Place& p, Steps& out) {
         const auto step = read_metaspace(v, p.where);
         out.emplace_back(MetaspaceDecoder{step.replacement, step.prepend != MetaspacePreTokenizer::Prepend::Never});
       }},
      {"BPEDecoder", [](const Value& v, const Place& p,
                        Steps& out) { out.emplace_back(BpeDecoder{string_field(v, "suffix", "</w>", p.where)}); }},
      {"ByteFallback", [](const Value&, const Place&, Steps& out) { out.emplace_back(ByteFallbackDecoder{}); }},
      {"Fuse", [](const Value&, const Place&, Steps& out) { out.emplace_back(FuseDecoder{}); }},
      {"Strip",
       [count](const Value& v, const Place& p, Steps& out) {
         out.emplace_back(
             StripDecoder{read_character(v, "content", p.where), count(v, "start", p), count(v, "stop", p)});
       }},
      {"Replace",
       [](const Value& v, const Place& p, Steps& out) {
         out.emplace_back(ReplaceDecoder{read_pattern(v, p.where), string_field(v, "content", "", p.where)});
       }},
      {"CTC",
       [](const Value& v, const Place& p, Steps& out) {
         out.emplace_back(CtcDecoder{string_field(v, "pad_token", "<pad>", p.where),
                                     string_field(v, "word_delimiter_token", "|", p.where),
                                     bool_field(v, "cleanup", true, p.where)});
       }},
  };
  read_steps(value, place, "decoder", "decoders", readers, steps);
}

TokenTable read_vocabulary(const Value& model, std::string_view where) {
  const Value& entries = get_field(model, "vocab", where);
  if (!entries.is_object()) fail_field(where, "vocab", "tokens with their numbers", &entries);
  std::vector<std::pair<std::int64_t, const std::string*>> sorted;
  for (const auto& [token, id] : entries.object())
    sorted.emplace_back(as_count(id, "vocab", kLargestId, where), &token);
  TokenTable table;
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [id, token] : sorted) table.insert(*token, static_cast<std::uint32_t>(id), where);
  return table;
}

std::uint32_t find_token(const TokenTable& table, std::string_view token, std::string_view where) {
  const std::uint32_t id = table.find(token);
  if (id == no_token)
    throw FormatError({.where = std::string(where),
                       .problem = fmt::format("a merge uses '{}', which is not in the vocabulary", token)});
  return id;
}

Bpe read_bpe(const Value& model, bool bytes, std::string_view where) {
  TokenTable table = read_vocabulary(model, where);
  BpeOptions options;
  if (find_field(model, "unk_token") != nullptr) options.unknown = string_field(model, "unk_token", "", where);
  options.continuing_prefix = string_field(model, "continuing_subword_prefix", "", where);
  options.end_suffix = string_field(model, "end_of_word_suffix", "", where);
  options.fuse_unknown = bool_field(model, "fuse_unk", false, where);
  options.byte_fallback = bool_field(model, "byte_fallback", false, where);
  options.ignore_merges = bool_field(model, "ignore_merges", false, where);
  options.bytes = bytes && options.continuing_prefix.empty() && options.end_suffix.empty() && !options.byte_fallback;
  if (const Value* dropout = find_field(model, "dropout");
      dropout != nullptr && !(dropout->is_number() && dropout->real() == 0))
    throw UnsupportedError({.where = std::string(where),
                            .problem = "BPE dropout draws another result each time",
                            .hint = "set \"dropout\" to null in the file"});
  const List& list = list_field(model, "merges", where);
  std::vector<Merge> merges;
  merges.reserve(list.size());
  std::string left, right, joined;
  for (const auto& item : list) {
    if (item.is_string()) {
      const std::string& line = item.string();
      if (line.starts_with("#version")) continue;
      const std::size_t space = line.find(' ');
      if (space == std::string::npos || line.find(' ', space + 1) != std::string::npos)
        fail_field(where, "merges", "two tokens with a space between", &item);
      left = line.substr(0, space), right = line.substr(space + 1);
    } else {
      if (!item.is_list() || item.list().size() != 2) fail_field(where, "merges", "two tokens", &item);
      left = as_string(item.list()[0], "merges", where), right = as_string(item.list()[1], "merges", where);
    }
    if (right.size() < options.continuing_prefix.size()) fail_field(where, "merges", "the prefix", &item);
    joined = left + right.substr(options.continuing_prefix.size());
    merges.push_back({find_token(table, left, where), find_token(table, right, where), find_token(table, joined, where),
                      static_cast<std::uint32_t>(merges.size())});
  }
  return {std::move(table), merges, std::move(options), where};
}

Unigram read_unigram(const Value& model, std::string_view where) {
  const List& entries = list_field(model, "vocab", where);
  TokenTable table;
  std::vector<double> scores;
  for (const auto& entry : entries) {
    if (!entry.is_list() || entry.list().size() != 2 || !entry.list()[1].is_number())
      fail_field(where, "vocab", "a token and its score", &entry);
    table.insert(as_string(entry.list()[0], "vocab", where), static_cast<std::uint32_t>(scores.size()), where);
    scores.push_back(entry.list()[1].real());
  }
  UnigramOptions options;
  if (const Value* unknown = find_field(model, "unk_id"))
    options.unknown = static_cast<std::uint32_t>(as_count(*unknown, "unk_id", kLargestId, where));
  options.byte_fallback = bool_field(model, "byte_fallback", false, where);
  return {std::move(table), std::move(scores), std::move(options), where};
}

// Files of the first versions name no type.
std::string model_type(const Value& model, std::string_view where) {
  if (find_field(model, "type") != nullptr) return string_field(model, "type", "", where);
  if (find_field(model, "merges") != nullptr) return "BPE";
  if (const Value* vocabulary = find_field(model, "vocab"); vocabulary != nullptr && vocabulary->is_list())
    return "Unigram";
  return find_field(model, "continuing_subword_prefix") != nullptr ? "WordPiece" : "WordLevel";
}

TokenModel read_model(const Value& model, bool bytes, std::string_view where) {
  const std::string type = model_type(model, where);
  if (type == "BPE") return read_bpe(model, bytes, where);
  if (type == "Unigram") return read_unigram(model, where);
  if (type == "WordPiece")
    return WordPiece(read_vocabulary(model, where),
                     {string_field(model, "unk_token", "[UNK]", where),
                      string_field(model, "continuing_subword_prefix", "##", where),
                      static_cast<std::size_t>(count_field(model, "max_input_chars_per_word", 100, 1 << 20, where))});
  if (type == "WordLevel")
    return WordLevel(read_vocabulary(model, where), string_field(model, "unk_token", "<unk>", where));
  throw UnsupportedError({.where = std::string(where), .problem = fmt::format("there is no model of type '{}'", type)});
}

std::vector<AddedToken> read_added_tokens(const Value& file, std::string_view where) {
  std::vector<AddedToken> tokens;
  if (find_field(file, "added_tokens") == nullptr) return tokens;
  for (const auto& item : list_field(file, "added_tokens", where)) {
    AddedToken token;
    token.content = as_string(get_field(item, "content", where), "content", where);
    token.id = static_cast<std::uint32_t>(as_count(get_field(item, "id", where), "id", kLargestId, where));
    token.single_word = bool_field(item, "single_word", false, where);
    token.strip_left = bool_field(item, "lstrip", false, where);
    token.strip_right = bool_field(item, "rstrip", false, where);
    token.special = bool_field(item, "special", false, where);
    token.normalized = bool_field(item, "normalized", !token.special, where);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

Side read_side(const Value& object, std::string_view where) {
  const std::string side = string_field(object, "direction", "Right", where);
  if (side != "Left" && side != "Right")
    fail_field(where, "direction", "Left or Right", find_field(object, "direction"));
  return side == "Left" ? Side::Left : Side::Right;
}

Truncation read_truncation(const Value& v, std::string_view where) {
  Truncation result;
  result.max_length = count_field(v, "max_length", 512, kLargestId, where);
  result.stride = count_field(v, "stride", 0, kLargestId, where);
  result.side = read_side(v, where);
  const std::string strategy = string_field(v, "strategy", "LongestFirst", where);
  using enum Truncation::Strategy;
  if (strategy != "LongestFirst" && strategy != "OnlyFirst" && strategy != "OnlySecond")
    fail_field(where, "strategy", "LongestFirst, OnlyFirst or OnlySecond", find_field(v, "strategy"));
  result.strategy = strategy == "LongestFirst" ? LongestFirst : strategy == "OnlyFirst" ? OnlyFirst : OnlySecond;
  return result;
}

Padding read_padding(const Value& v, std::string_view where) {
  Padding result;
  if (const Value* strategy = find_field(v, "strategy"); strategy != nullptr && strategy->is_object())
    result.length = count_field(*strategy, "Fixed", 0, 1 << 20, where);
  result.multiple_of = count_field(v, "pad_to_multiple_of", 0, 1 << 20, where);
  result.side = read_side(v, where);
  result.id = count_field(v, "pad_id", 0, kLargestId, where);
  result.type_id = count_field(v, "pad_type_id", 0, kLargestId, where);
  return result;
}

}  // namespace

Tokenizer read_tokenizer_json(std::string_view json, std::string_view where) {
  return make_tokenizer(parse_json(json, where), where);
}

Tokenizer make_tokenizer(const Value& file, std::string_view where) {
  if (!file.is_object()) fail_field(where, "the file", "an object", &file);
  const Place place{where};
  std::vector<PreTokenizerStep> pre_tokenizer;
  if (const Value* v = find_field(file, "pre_tokenizer")) read_pre_tokenizer(*v, place, pre_tokenizer);
  // Where bytes become characters last of all, they need not: the model looks its tokens up by bytes.
  auto* byte_level = pre_tokenizer.empty() ? nullptr : std::get_if<ByteLevelPreTokenizer>(&pre_tokenizer.back());
  const Value& model = get_field(file, "model", where);
  const bool bytes = byte_level != nullptr && model_type(model, where) == "BPE" &&
                     string_field(model, "continuing_subword_prefix", "", where).empty() &&
                     string_field(model, "end_of_word_suffix", "", where).empty() &&
                     !bool_field(model, "byte_fallback", false, where);
  if (bytes) byte_level->raw = true;
  auto parts = std::make_shared<TokenizerParts>(read_model(model, bytes, where));
  parts->pre_tokenizer = std::move(pre_tokenizer);
  if (const Value* v = find_field(file, "normalizer")) read_normalizer(*v, place, parts->normalizer);
  if (const Value* v = find_field(file, "post_processor")) read_post_processor(*v, place, parts->post_processor);
  if (const Value* v = find_field(file, "decoder")) {
    read_decoder(*v, place, parts->decoder);
    parts->has_decoder = true;
  }
  if (const Value* v = find_field(file, "truncation")) parts->truncation = read_truncation(*v, where);
  if (const Value* v = find_field(file, "padding")) parts->padding = read_padding(*v, where);
  parts->added = AddedTokens(read_added_tokens(file, where), parts->normalizer);
  parts->finish();
  return Tokenizer(std::move(parts));
}

}  // namespace tenon::text
