#include "tenon/text/unicode.h"

#include <utf8proc.h>

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/text/unicode_tables.h"

namespace tenon::text {
namespace {

utf8proc_category_t category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }
const utf8proc_property_t& property(char32_t c) { return *utf8proc_get_property(static_cast<utf8proc_int32_t>(c)); }

// The full decomposition of one character.
template <class Fn>
void decompose(char32_t c, bool compatible, Fn&& fn) {
  utf8proc_int32_t parts[32];
  int boundary = 0;
  const int options = UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0);
  const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts, std::size(parts),
                                             static_cast<utf8proc_option_t>(options), &boundary);
  if (count < 0 || count > static_cast<utf8proc_ssize_t>(std::size(parts)))
    throw InternalError("a character's decomposition is longer than Unicode's longest");
  for (utf8proc_ssize_t i = 0; i < count; ++i) fn(static_cast<char32_t>(parts[i]));
}

// The character that the two compose to, or 0.
char32_t compose(char32_t first, char32_t second) {
  if (second < 0x300) return 0;
  utf8proc_int32_t pair[2] = {static_cast<utf8proc_int32_t>(first), static_cast<utf8proc_int32_t>(second)};
  const auto length =
      utf8proc_normalize_utf32(pair, 2, static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  return length == 1 ? static_cast<char32_t>(pair[0]) : 0;
}

struct Decomposed {
  Change change;
  int combining_class = 0;
};

std::vector<Decomposed> decompose_all(std::string_view text, bool compatible) {
  std::vector<Decomposed> all;
  all.reserve(text.size());
  std::size_t pending = 0;  // where the run of marks that is not yet in order begins
  const auto sort_pending = [&] {
    std::stable_sort(all.begin() + static_cast<std::ptrdiff_t>(pending), all.end(),
                     [](const Decomposed& a, const Decomposed& b) { return a.combining_class < b.combining_class; });
    pending = all.size();
  };
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    if (c < 0x80) {
      sort_pending();
      all.push_back({{c, 0}, 0});
      continue;
    }
    bool first = true;
    decompose(c, compatible, [&](char32_t part) {
      const int combining_class = property(part).combining_class;
      if (combining_class == 0) sort_pending();
      all.push_back({{part, first ? 0 : 1}, combining_class});
      first = false;
    });
  }
  sort_pending();
  return all;
}

// As the Unicode algorithm; the change of a composed character counts what went into it.
std::vector<Change> compose_all(const std::vector<Decomposed>& parts) {
  std::vector<Change> result;
  result.reserve(parts.size());
  std::vector<Change> marks;  // behind `starter`, not composed
  Change starter;
  bool has_starter = false;
  int last_class = -1;  // of the last mark kept; -1: none
  const auto flush = [&] {
    if (has_starter) result.push_back(starter);
    result.insert(result.end(), marks.begin(), marks.end());
    marks.clear();
    last_class = -1;
  };
  for (const auto& [change, combining_class] : parts) {
    if (!has_starter) {
      if (combining_class != 0) {
        result.push_back(change);
      } else {
        starter = change;
        has_starter = true;
      }
      continue;
    }
    const bool blocked = last_class >= combining_class;
    const char32_t composed = blocked ? 0 : compose(starter.character, change.character);
    if (composed != 0) {
      starter = {composed, starter.change + change.change - 1};
    } else if (combining_class == 0) {
      flush();
      starter = change;
    } else {
      marks.push_back(change);
      last_class = combining_class;
    }
  }
  flush();
  return result;
}

}  // namespace

bool is_whitespace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
  if (c < 0x1680) return c == 0x85 || c == 0xa0;
  return c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

bool is_control(char32_t c) {
  if (c < 0x80) return c < 0x20 || c == 0x7f;
  const auto kind = category(c);
  return control_change.apply(
      c, kind == UTF8PROC_CATEGORY_CC || kind == UTF8PROC_CATEGORY_CF || kind == UTF8PROC_CATEGORY_CO);
}

bool is_punctuation(char32_t c) {
  if (c < 0x80)
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
  const auto kind = category(c);
  return punctuation_change.apply(c, kind >= UTF8PROC_CATEGORY_PC && kind <= UTF8PROC_CATEGORY_PO);
}

bool is_numeric(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  const auto kind = category(c);
  return numeric_change.apply(c, kind >= UTF8PROC_CATEGORY_ND && kind <= UTF8PROC_CATEGORY_NO);
}

bool is_nonspacing_mark(char32_t c) {
  return c >= 0x300 && nonspacing_change.apply(c, category(c) == UTF8PROC_CATEGORY_MN);
}

bool is_combining_mark(char32_t c) {
  if (c < 0x300) return false;
  const auto kind = category(c);
  return combining_change.apply(c, kind >= UTF8PROC_CATEGORY_MN && kind <= UTF8PROC_CATEGORY_ME);
}

bool is_word_character(char32_t c) {
  if (c < 0x80) return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
  const auto kind = category(c);
  const bool letter = kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_ME;
  // Alphabetic symbols: circled and squared Latin letters. And the joiners.
  const bool symbol = (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) ||
                      (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189) || c == 0x200c || c == 0x200d;
  return word_change.apply(c, letter || symbol || kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_NL ||
                                  kind == UTF8PROC_CATEGORY_PC);
}

bool has_script(char32_t c) {
  const auto kind = category(c);
  return !no_script_change.apply(
      c, kind == UTF8PROC_CATEGORY_CN || kind == UTF8PROC_CATEGORY_CO || kind == UTF8PROC_CATEGORY_CS);
}

bool is_chinese_character(char32_t c) {
  return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) ||
         (c >= 0x2a700 && c <= 0x2b73f) || (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
         (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

Lowered lower(char32_t c) {
  if (c < 0x80) return {c >= 'A' && c <= 'Z' ? c + 32 : c};
  if (c == 0x130) return {'i', 0x307};
  return {static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)))};
}

char32_t upper(char32_t c) { return static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))); }

std::vector<Change> normalize(std::string_view text, NormalForm form) {
  const bool compatible = form == NormalForm::NFKC || form == NormalForm::NFKD;
  const auto parts = decompose_all(text, compatible);
  if (form == NormalForm::NFC || form == NormalForm::NFKC) return compose_all(parts);
  std::vector<Change> result;
  result.reserve(parts.size());
  for (const auto& part : parts) result.push_back(part.change);
  return result;
}

bool is_normalized(std::string_view text, NormalForm form) {
  const char32_t first = form == NormalForm::NFC ? 0x300 : form == NormalForm::NFD ? 0xc0 : 0xa0;
  for (std::size_t at = 0; at < text.size();)
    if (next_code_point(text, at) >= first) return false;
  return true;
}

std::size_t grapheme_length(std::string_view text) {
  std::size_t at = 0;
  auto previous = static_cast<utf8proc_int32_t>(next_code_point(text, at));
  utf8proc_int32_t state = 0;
  while (at < text.size()) {
    std::size_t next = at;
    const auto c = static_cast<utf8proc_int32_t>(next_code_point(text, next));
    if (utf8proc_grapheme_break_stateful(previous, c, &state)) break;
    previous = c;
    at = next;
  }
  return at;
}

}  // namespace tenon::text
