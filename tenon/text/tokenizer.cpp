#include "tenon/text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/data/utf8.h"
#include "tenon/text/tokenizer_parts.h"

namespace tenon::text {
namespace {

// While an encoding is being made, special_mask holds each token's edges, for the post-processor that trims.
std::int64_t packed(Edges edges) { return std::int64_t{edges.leading} << 16 | edges.trailing; }
Edges unpacked(std::int64_t value) {
  return {static_cast<std::uint16_t>(value >> 16), static_cast<std::uint16_t>(value & 0xffff)};
}

// From bytes to the unit that was asked for, as the reference counts characters.
class OffsetConverter {
 public:
  OffsetConverter(std::string_view text, OffsetUnit unit) {
    if (unit == OffsetUnit::Bytes || is_ascii(text)) return;
    number_.reserve(text.size());
    std::uint32_t number = 0;
    for (std::size_t at = 0; at < text.size(); ++at) {
      if (at > 0 && !is_continuation(text[at])) ++number;
      number_.push_back(number);
    }
  }
  Offset operator()(Span bytes) const {
    if (number_.empty() || bytes.begin >= number_.size()) return {bytes.begin, bytes.end};
    const std::int64_t begin = number_[bytes.begin];
    if (bytes.end < number_.size()) return {begin, number_[bytes.end]};
    return {begin, std::int64_t{number_.back()} + 1};
  }

 private:
  std::vector<std::uint32_t> number_;  // of the character that each byte belongs to
};

template <class Model>
void encode_pieces(const TokenizerParts& parts, const Model& model, std::vector<Piece>& pieces, std::string_view text,
                   const EncodeOptions& options, std::int64_t type_id, Encoding& e) {
  const OffsetConverter convert(text, options.offsets);
  const std::size_t expected = e.ids.size() + text.size() / 3 + 4;
  e.ids.reserve(expected), e.offsets.reserve(expected), e.words.reserve(expected), e.special_mask.reserve(expected);
  std::vector<WordToken> tokens;
  std::int64_t word_number = 0;
  const bool trims = !parts.edges.empty();
  const auto push = [&](std::uint32_t id, Span bytes, Edges edges) {
    e.ids.push_back(id);
    e.offsets.push_back(convert(bytes));
    e.words.push_back(word_number);
    e.special_mask.push_back(packed(edges));
  };
  for (auto& piece : pieces) {
    if (piece.token != no_token) {
      push(piece.token, piece.text.original(0, piece.text.size()), trims ? edges_of(piece.text.str()) : Edges{});
      ++word_number;
      continue;
    }
    pre_tokenize(parts.pre_tokenizer, piece);
    const std::string_view all = piece.text.str();
    for (const Span word : piece.words) {
      if (word.begin == word.end) continue;
      tokens.clear();
      model.encode(all.substr(word.begin, word.end - word.begin), word.begin, tokens);
      for (const auto& token : tokens)
        push(token.id, piece.text.original(token.bytes.begin, token.bytes.end),
             trims && token.id < parts.edges.size() ? parts.edges[token.id] : Edges{});
      ++word_number;
    }
  }
  e.type_ids.resize(e.ids.size(), type_id);
  e.attention_mask.resize(e.ids.size(), 1);
}

void require_text(std::string_view text) {
  if (text.size() >= 0xffffff00U)
    throw ValueError({.where = "tokenizer", .problem = "the text is too long", .expected = "less than 4 GiB"});
  data::require_utf8(text, "tokenizer");
}

Encoding encode_text(const TokenizerParts& parts, std::string_view text, const EncodeOptions& options,
                     std::int64_t type_id) {
  require_text(text);
  Encoding encoding;
  auto pieces = parts.added.split(text, parts.normalizer, options.find_special_tokens);
  std::visit([&](const auto& model) { encode_pieces(parts, model, pieces, text, options, type_id, encoding); },
             parts.model);
  return encoding;
}

void trim_offsets(Encoding& e, bool add_prefix_space) {
  for (std::size_t i = 0; i < e.ids.size(); ++i) {
    auto [leading, trailing] = unpacked(e.special_mask[i]);
    Offset& offset = e.offsets[i];
    if (leading > 0) {
      // A space that was added in front is not part of the text, so there is nothing to leave out.
      const bool first = i == 0 || offset.begin == 0;
      if (!(first && add_prefix_space && leading == 1)) offset.begin = std::min(offset.begin + leading, offset.end);
    }
    if (trailing > 0 && offset.end >= trailing) offset.end = std::max(offset.end - trailing, offset.begin);
  }
}

void clear_edges(Encoding& e) {
  std::fill(e.special_mask.begin(), e.special_mask.end(), 0);
  for (auto& part : e.overflowing) clear_edges(part);
}

Encoding added(const TemplatePart& part) {
  Encoding e;
  const std::size_t count = part.ids.size();
  e.ids = part.ids;
  e.type_ids.assign(count, part.type_id);
  e.offsets.assign(count, {});
  e.words.assign(count, -1);
  e.special_mask.assign(count, 1);
  e.attention_mask.assign(count, 1);
  return e;
}

void apply(const TrimOffsets& step, std::vector<Encoding>& sequences, bool) {
  for (auto& e : sequences) {
    trim_offsets(e, step.add_prefix_space);
    for (auto& part : e.overflowing) trim_offsets(part, step.add_prefix_space);
  }
}

void apply(const TemplateProcessor& step, std::vector<Encoding>& sequences, bool add_special_tokens) {
  for (auto& e : sequences) {
    clear_edges(e);
    if (step.one_type) std::fill(e.type_ids.begin(), e.type_ids.end(), 0);
  }
  Encoding result;
  bool first = true;
  for (const auto& part : sequences.size() > 1 ? step.pair : step.single) {
    Encoding next;
    if (part.sequence >= 0) {
      next = sequences[std::min(static_cast<std::size_t>(part.sequence), sequences.size() - 1)];
      std::fill(next.type_ids.begin(), next.type_ids.end(), part.type_id);
    } else if (add_special_tokens) {
      next = added(part);
    } else {
      continue;
    }
    if (first) {
      result = std::move(next);
    } else {
      merge(result, next);
    }
    first = false;
  }
  sequences.clear();
  sequences.push_back(std::move(result));
}

}  // namespace

Edges edges_of(std::string_view token) {
  const auto is_space = [&](std::size_t at) {
    const char32_t c = next_code_point(token, at);
    return c == 0x120 || is_whitespace(c);
  };
  std::size_t leading = 0, trailing = 0;
  for (std::size_t at = 0; at < token.size() && is_space(at); at += code_point_length(token[at])) ++leading;
  for (std::size_t at = token.size(); at > 0; ++trailing) {
    at = previous_code_point(token, at);
    if (!is_space(at)) break;
  }
  constexpr std::size_t most = 0xffff;
  return {static_cast<std::uint16_t>(std::min(leading, most)), static_cast<std::uint16_t>(std::min(trailing, most))};
}

void TokenizerParts::finish() {
  const bool trims = std::any_of(post_processor.begin(), post_processor.end(),
                                 [](const auto& step) { return std::holds_alternative<TrimOffsets>(step); });
  if (!trims) return;
  edges.assign(std::max<std::size_t>(vocabulary().id_limit(), 1), {});
  vocabulary().for_each([&](std::string_view token, std::uint32_t id) { edges[id] = edges_of(token); });
}

std::int64_t added_token_count(const std::vector<PostProcessorStep>& steps, bool pair) {
  std::int64_t count = 0;
  for (const auto& step : steps)
    if (const auto* parts = std::get_if<TemplateProcessor>(&step))
      for (const auto& part : pair ? parts->pair : parts->single) count += static_cast<std::int64_t>(part.ids.size());
  return count;
}

std::optional<Truncation> Tokenizer::truncation() const { return truncation_set_ ? truncation_ : parts_->truncation; }
std::optional<Padding> Tokenizer::padding() const { return padding_set_ ? padding_ : parts_->padding; }

Encoding Tokenizer::finish(Encoding first, std::optional<Encoding> second, const EncodeOptions& options) const {
  if (const auto limits = truncation()) {
    const std::int64_t added_count =
        options.add_special_tokens ? added_token_count(parts_->post_processor, second.has_value()) : 0;
    if (limits->max_length < added_count)
      throw ValueError({.where = "tokenizer",
                        .problem = "the largest length has no room for the tokens that are added",
                        .expected = fmt::format("at least {}", added_count),
                        .got = std::to_string(limits->max_length)});
    truncate(first, second ? &*second : nullptr, limits->max_length - added_count, *limits);
  }
  std::vector<Encoding> sequences;
  sequences.push_back(std::move(first));
  if (second) sequences.push_back(std::move(*second));
  for (const auto& step : parts_->post_processor)
    std::visit([&](const auto& s) { apply(s, sequences, options.add_special_tokens); }, step);
  const bool marked = std::any_of(parts_->post_processor.begin(), parts_->post_processor.end(),
                                  [](const auto& step) { return std::holds_alternative<TemplateProcessor>(step); });
  Encoding result = std::move(sequences[0]);
  if (!marked) {
    clear_edges(result);
    for (std::size_t i = 1; i < sequences.size(); ++i) {
      clear_edges(sequences[i]);
      merge(result, sequences[i]);
    }
  }
  if (const auto filling = padding()) {
    std::vector<Encoding> one;
    one.push_back(std::move(result));
    pad_all(one, *filling);
    result = std::move(one[0]);
  }
  return result;
}

Encoding Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  return finish(encode_text(*parts_, text, options, 0), std::nullopt, options);
}

Encoding Tokenizer::encode_pair(std::string_view first, std::string_view second, const EncodeOptions& options) const {
  return finish(encode_text(*parts_, first, options, 0), encode_text(*parts_, second, options, 1), options);
}

Encoding Tokenizer::encode_words(std::span<const std::string> words, const EncodeOptions& options) const {
  Encoding all;
  for (std::size_t i = 0; i < words.size(); ++i) {
    Encoding next = encode_text(*parts_, words[i], options, 0);
    std::fill(next.words.begin(), next.words.end(), static_cast<std::int64_t>(i));
    merge(all, next);
  }
  return finish(std::move(all), std::nullopt, options);
}

std::vector<Encoding> Tokenizer::encode_batch(std::span<const std::string> texts, const EncodeOptions& options) const {
  std::vector<Encoding> encodings;
  encodings.reserve(texts.size());
  for (const auto& text : texts) encodings.push_back(encode(text, options));
  if (const auto filling = padding()) pad_all(encodings, *filling);
  return encodings;
}

std::string Tokenizer::decode(std::span<const std::int64_t> ids, bool skip_special_tokens) const {
  Texts tokens;
  tokens.reserve(ids.size());
  for (const std::int64_t wide : ids) {
    if (wide < 0 || wide >= no_token) continue;
    const auto id = static_cast<std::uint32_t>(wide);
    if (const AddedToken* token = parts_->added.find(id)) {
      const std::string& form = parts_->added.decoded_form(*token);
      if (!skip_special_tokens || !parts_->added.is_special(form)) tokens.push_back(form);
    } else if (parts_->vocabulary().contains(id)) {
      const std::string_view text = parts_->vocabulary().text(id);
      if (!skip_special_tokens || !parts_->added.is_special(text)) tokens.emplace_back(text);
    }
  }
  if (parts_->has_decoder) return text::decode(parts_->decoder, std::move(tokens));
  return fmt::format("{}", fmt::join(tokens, " "));
}

std::optional<std::int64_t> Tokenizer::token_to_id(std::string_view token) const {
  if (const AddedToken* added_token = parts_->added.find(token)) return added_token->id;
  const std::uint32_t id = parts_->vocabulary().find(token);
  if (id == no_token) return std::nullopt;
  return id;
}

std::optional<std::string> Tokenizer::id_to_token(std::int64_t id) const {
  if (id < 0 || id >= no_token) return std::nullopt;
  const auto number = static_cast<std::uint32_t>(id);
  if (const AddedToken* token = parts_->added.find(number)) return parts_->added.decoded_form(*token);
  if (!parts_->vocabulary().contains(number)) return std::nullopt;
  return std::string(parts_->vocabulary().text(number));
}

bool Tokenizer::is_special(std::int64_t id) const {
  const AddedToken* token = id < 0 || id >= no_token ? nullptr : parts_->added.find(static_cast<std::uint32_t>(id));
  return token != nullptr && token->special;
}

std::int64_t Tokenizer::vocabulary_size() const {
  auto size = static_cast<std::int64_t>(parts_->vocabulary().size());
  for (const auto& token : parts_->added.tokens()) size += parts_->vocabulary().find(token.content) == no_token ? 1 : 0;
  return size;
}

std::string StreamDecoder::add(std::int64_t id) {
  constexpr std::string_view kIncomplete = "\xef\xbf\xbd";
  if (prefix_.empty() && !ids_.empty()) {
    std::string text = tokenizer_.decode(ids_, skip_special_tokens_);
    if (!text.ends_with(kIncomplete)) {
      prefix_ = std::move(text);
      prefix_count_ = ids_.size();
    }
  }
  ids_.push_back(id);
  const std::string text = tokenizer_.decode(ids_, skip_special_tokens_);
  if (text.size() <= prefix_.size() || text.ends_with(kIncomplete)) return {};
  // A decoder that rewrites what it said before (it cleans up spaces): say nothing twice.
  const std::size_t said = text.starts_with(prefix_) ? prefix_.size() : text.size();
  std::string fresh = text.substr(said);
  const std::size_t count = ids_.size() - prefix_count_;
  ids_.erase(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(prefix_count_));
  prefix_ = tokenizer_.decode(ids_, skip_special_tokens_);
  prefix_count_ = count;
  return fresh;
}

}  // namespace tenon::text
