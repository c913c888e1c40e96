#include "tenon/text/normalizer.h"

#include <algorithm>

#include "tenon/text/bytes_as_characters.h"

namespace tenon::text {
namespace {

constexpr std::string_view kSpaceSymbol = "\xe2\x96\x81";  // ▁

void normalize_form(AlignedText& text, NormalForm form) {
  if (!is_normalized(text.str(), form)) text.transform(normalize(text.str(), form));
}

template <class Keep>
void filter(AlignedText& text, Keep&& keep) {
  text.rewrite([&](char32_t c, auto emit) {
    if (keep(c)) emit(c);
  });
}

void lowercase(AlignedText& text) {
  text.rewrite([](char32_t c, auto emit) {
    const Lowered low = lower(c);
    emit(low.first);
    if (low.second != 0) emit(low.second);
  });
}

}  // namespace

void BertNormalizer::apply(AlignedText& text) const {
  // The steps of one character after another are one pass; removing accents needs all of its neighbours.
  const auto tidy = [&](bool lowering) {
    text.rewrite([&](char32_t c, auto emit) {
      if (clean_text) {
        const bool space = c == '\t' || c == '\n' || c == '\r';
        if (!space && (c == 0 || c == 0xfffd || is_control(c))) return;
        if (space || is_whitespace(c)) c = ' ';
      }
      if (chinese_characters && is_chinese_character(c)) {
        emit(' '), emit(c), emit(' ');
        return;
      }
      const Lowered low = lowering ? lower(c) : Lowered{c};
      emit(low.first);
      if (low.second != 0) emit(low.second);
    });
  };
  if (!strip_accents || is_normalized(text.str(), NormalForm::NFD)) {
    if (clean_text || chinese_characters || lowercase) tidy(lowercase);
    return;
  }
  if (clean_text || chinese_characters) tidy(false);
  normalize_form(text, NormalForm::NFD);
  filter(text, [](char32_t c) { return !is_nonspacing_mark(c); });
  if (lowercase) text::lowercase(text);
}

void UnicodeNormalizer::apply(AlignedText& text) const { normalize_form(text, form); }

void LowercaseNormalizer::apply(AlignedText& text) const { lowercase(text); }

void StripNormalizer::apply(AlignedText& text) const {
  const std::string& s = text.str();
  std::size_t begin = 0, end = s.size();
  while (left && begin < end) {
    std::size_t next = begin;
    if (!is_whitespace(next_code_point(s, next))) break;
    begin = next;
  }
  while (right && begin < end) {
    std::size_t at = previous_code_point(s, end), next = at;
    if (!is_whitespace(next_code_point(s, next))) break;
    end = at;
  }
  text.crop(begin, end);
}

void StripAccentsNormalizer::apply(AlignedText& text) const {
  filter(text, [](char32_t c) { return !is_combining_mark(c); });
}

void PrependNormalizer::apply(AlignedText& text) const { text.prepend(content); }

void ReplaceNormalizer::apply(AlignedText& text) const {
  std::vector<Span> matches;
  Regex::Matcher(pattern).for_each(text.str(), [&](Span match) { matches.push_back(match); });
  text.replace(matches, content);
}

void CharsmapNormalizer::apply(AlignedText& text) const {
  std::vector<Change> changes;
  changes.reserve(text.size());
  bool modified = false;
  const auto map_part = [&](std::string_view part) {
    const auto match = map->shortest(part);
    if (match.length == 0) return false;
    std::int32_t old_count = 0, new_count = 0;
    for (std::size_t at = 0; at < part.size(); ++old_count) next_code_point(part, at);
    for (std::size_t at = 0; at < match.replacement.size(); ++new_count)
      changes.push_back({next_code_point(match.replacement, at), 0});
    const std::int32_t more = new_count - old_count;
    for (std::int32_t i = 0; i < more; ++i) changes[changes.size() - 1 - static_cast<std::size_t>(i)].change = 1;
    if (more < 0 && !changes.empty()) changes.back().change += more;
    return modified = true;
  };
  const std::string_view all = text.str();
  for (std::size_t at = 0; at < all.size();) {
    // Between two ASCII characters there is always a border, except within "\r\n".
    const bool ascii = static_cast<unsigned char>(all[at]) < 0x80 && all[at] != '\r' &&
                       (at + 1 == all.size() || static_cast<unsigned char>(all[at + 1]) < 0x80);
    const std::string_view grapheme = all.substr(at, ascii ? 1 : grapheme_length(all.substr(at)));
    at += grapheme.size();
    if (grapheme.size() < 6 && map_part(grapheme)) continue;
    for (std::size_t i = 0; i < grapheme.size();) {
      const std::size_t begin = i;
      const char32_t c = next_code_point(grapheme, i);
      if (!map_part(grapheme.substr(begin, i - begin))) changes.push_back({c, 0});
    }
  }
  if (modified) text.transform(changes);
}

void NmtNormalizer::apply(AlignedText& text) const {
  text.rewrite([](char32_t c, auto emit) {
    if ((c >= 1 && c <= 8) || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f || c == 0x8f || c == 0x9f) return;
    const bool space = c == 9 || c == 0xa || c == 0xc || c == 0xd || c == 0x1680 || (c >= 0x200b && c <= 0x200f) ||
                       c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xfeff || c == 0xfffd;
    emit(space ? U' ' : c);
  });
}

void ByteCharactersNormalizer::apply(AlignedText& text) const {
  text.rewrite([](char32_t c, auto emit) {
    std::string bytes;
    append_code_point(bytes, c);
    for (const char byte : bytes) emit(byte_characters()[static_cast<unsigned char>(byte)]);
  });
}

void SentencePieceNormalizer::apply(AlignedText& text) const {
  const std::string_view space = escape_whitespaces ? kSpaceSymbol : std::string_view(" ");
  const std::string_view all = text.str();
  // What the text begins with becomes: itself, a replacement, or a user-defined piece.
  const auto step = [&](std::size_t at) -> std::pair<std::size_t, std::string_view> {
    if (user_defined != nullptr) {
      const auto match = user_defined->longest(all.substr(at));
      if (match.length != 0) return {match.length, all.substr(at, match.length)};
    }
    if (map != nullptr) {
      const auto match = map->longest(all.substr(at));
      if (match.length != 0) return {match.length, match.replacement};
    }
    const std::size_t length = code_point_length(all[at]);
    return {length, all.substr(at, length)};
  };
  AlignedText out;
  std::size_t at = 0;
  while (remove_extra_whitespaces && at < all.size()) {
    const auto [length, becomes] = step(at);
    if (becomes != " ") break;
    at += length;
  }
  if (at == all.size()) {
    text = AlignedText();
    return;
  }
  if (add_dummy_prefix && !whitespace_as_suffix) out.append(space, text.original(at));
  bool after_space = remove_extra_whitespaces;
  std::string part;
  while (at < all.size()) {
    auto [length, becomes] = step(at);
    while (after_space && becomes.starts_with(' ')) becomes.remove_prefix(1);
    if (!becomes.empty()) {
      part.clear();
      for (const char c : becomes) {
        if (c == ' ') {
          part += space;
        } else {
          part += c;
        }
      }
      out.append(part, text.original(at, at + length));
      after_space = remove_extra_whitespaces && becomes.ends_with(' ');
    }
    at += length;
  }
  std::size_t end = out.size();
  while (remove_extra_whitespaces && std::string_view(out.str()).substr(0, end).ends_with(space)) end -= space.size();
  out.crop(0, end);
  if (add_dummy_prefix && whitespace_as_suffix && out.size() > 0) out.append(space, out.original(out.size() - 1));
  text = std::move(out);
}

}  // namespace tenon::text
