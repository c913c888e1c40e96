#include "tenon/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>

#include "tenon/base/error.h"

namespace tenon::text {
namespace {

constexpr std::string_view kSpace = R"(\x09-\x0d\x{85}\p{Z})";
// Oniguruma counts the fractions and superscripts of Latin-1 among them, and no others.
constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})";
// A pattern that is not absurd stays far below; a hostile one is stopped.
constexpr std::uint32_t kMatchLimit = 5'000'000;
constexpr std::size_t kLongestPattern = 1 << 16;

// The length of the character class that begins at pattern[at] == '[', its brackets included; 0 if it never ends.
std::size_t class_length(std::string_view pattern, std::size_t at) {
  int depth = 0;
  for (std::size_t i = at; i < pattern.size(); ++i) {
    if (pattern[i] == '\\') {
      ++i;
    } else if (pattern[i] == '[') {
      ++depth;
    } else if (pattern[i] == ']' && !(i == at + 1 || (i == at + 2 && pattern[at + 1] == '^'))) {
      if (--depth == 0) return i + 1 - at;
    }
  }
  return 0;
}

// PCRE2 reads \p{Han} as "used with Han", which punctuation is too; Oniguruma as the script itself. `at` stands behind
// the p of \p{Name}, \p{^Name} or \P{Name} and is moved behind the name; true if it was the name of a script.
bool take_script(std::string_view pattern, std::size_t& at, std::string& name) {
  if (at >= pattern.size() || pattern[at] != '{') return false;
  const std::size_t end = pattern.find('}', at);
  if (end == std::string_view::npos || end - at > 40) return false;
  name = pattern.substr(at + 1, end - at - 1);
  const std::string bare = name.starts_with('^') ? name.substr(1) : name;
  if (bare.size() < 3) return false;  // categories: L, Lu, N, …
  const std::string trial = "\\p{sc:" + bare + "}";
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(trial.data()), trial.size(), PCRE2_UTF, &error, &offset, nullptr);
  if (code == nullptr) return false;
  pcre2_code_free(code);
  name = (name.starts_with('^') ? "^sc:" : "sc:") + bare;
  at = end + 1;
  return true;
}

std::string translate_class(std::string_view text);

// The inside of a class: \s and \w spelt out, nested classes joined.
std::string translate_members(std::string_view inside) {
  std::string out;
  for (std::size_t i = 0; i < inside.size(); ++i) {
    if (inside[i] == '\\' && i + 1 < inside.size()) {
      ++i;
      if (inside[i] == 's') {
        out += kSpace;
      } else if (inside[i] == 'w') {
        out += kWord;
      } else {
        const char letter = inside[i];
        out += '\\';
        out += letter;
        std::string name;
        std::size_t behind = i + 1;
        if ((letter == 'p' || letter == 'P') && take_script(inside, behind, name)) {
          out += "{" + name + "}";
          i = behind - 1;
        }
      }
    } else if (inside[i] == '[' && i + 1 < inside.size() && inside[i + 1] != ':') {
      const std::size_t length = class_length(inside, i);
      if (length > 2 && inside[i + 1] != '^') {
        out += translate_members(inside.substr(i + 1, length - 2));
        i += length - 1;
      } else {
        out += "\\[";
      }
    } else {
      out += inside[i];
    }
  }
  return out;
}

// Where "&&" stands at the top of a class's inside, or npos.
std::size_t find_intersection(std::string_view inside) {
  int depth = 0;
  for (std::size_t i = 0; i + 1 < inside.size(); ++i) {
    if (inside[i] == '\\') {
      ++i;
    } else if (inside[i] == '[') {
      ++depth;
    } else if (inside[i] == ']') {
      --depth;
    } else if (depth == 0 && inside[i] == '&' && inside[i + 1] == '&') {
      return i;
    }
  }
  return std::string_view::npos;
}

// "[a&&[^b]]" is "(?:(?=[^b])[a])".
std::string translate_class(std::string_view text) {
  std::string_view inside = text.substr(1, text.size() - 2);
  const std::size_t both = find_intersection(inside);
  if (both == std::string_view::npos) return "[" + translate_members(inside) + "]";
  const bool negated = inside.starts_with('^');
  if (negated) inside.remove_prefix(1);
  const std::size_t cut = both - (negated ? 1 : 0);
  const auto side = [](std::string_view part) {
    return part.starts_with('[') && class_length(part, 0) == part.size()
               ? translate_class(part)
               : translate_class("[" + std::string(part) + "]");
  };
  const std::string left = side(inside.substr(0, cut)), right = side(inside.substr(cut + 2));
  return negated ? fmt::format("(?:(?!(?={}){})[\\s\\S])", right, left) : fmt::format("(?:(?={}){})", right, left);
}

std::string translate(std::string_view pattern) {
  std::string out;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '\\' && i + 1 < pattern.size()) {
      switch (pattern[++i]) {
        case 's':
          out += fmt::format("[{}]", kSpace);
          break;
        case 'S':
          out += fmt::format("[^{}]", kSpace);
          break;
        case 'w':
          out += fmt::format("[{}]", kWord);
          break;
        case 'W':
          out += fmt::format("[^{}]", kWord);
          break;
        default: {
          const char letter = pattern[i];
          out += '\\';
          out += letter;
          std::string name;
          std::size_t behind = i + 1;
          if ((letter == 'p' || letter == 'P') && take_script(pattern, behind, name)) {
            out += "{" + name + "}";
            i = behind - 1;
          }
        }
      }
    } else if (pattern[i] == '[') {
      const std::size_t length = class_length(pattern, i);
      if (length == 0) return out + std::string(pattern.substr(i));  // PCRE2 says what is wrong
      out += translate_class(pattern.substr(i, length));
      i += length - 1;
    } else {
      out += pattern[i];
    }
  }
  return out;
}

struct Working {
  pcre2_match_data* data;
  pcre2_match_context* context;
};

}  // namespace

Regex::Regex(std::string_view pattern, std::string_view where) : pattern_(pattern) {
  if (pattern.size() > kLongestPattern)
    throw FormatError({.where = std::string(where),
                       .problem = "the pattern is too long",
                       .expected = fmt::format("at most {} bytes", kLongestPattern),
                       .got = std::to_string(pattern.size())});
  const std::string translated = translate(pattern);
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  if (context == nullptr) throw MemoryError({.where = std::string(where), .problem = "no memory for a pattern"});
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), 100);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &offset, context.get());
  if (code == nullptr) {
    unsigned char message[256] = {};
    pcre2_get_error_message(error, message, sizeof message);
    throw FormatError({.where = std::string(where),
                       .problem = fmt::format("the pattern is wrong: {}", reinterpret_cast<const char*>(message)),
                       .got = fmt::format("'{}'", pattern)});
  }
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where it cannot, matching is slower
  code_ = std::shared_ptr<const void>(
      code, [](const void* held) { pcre2_code_free(const_cast<pcre2_code*>(static_cast<const pcre2_code*>(held))); });
}

Regex Regex::literal(std::string_view text) {
  if (text.empty()) return Regex("", "literal");
  Regex result;
  result.pattern_ = result.literal_ = text;
  return result;
}

Regex::Matcher::Matcher(const Regex& regex) : code_(regex.code_), literal_(regex.literal_) {
  if (code_ == nullptr) return;
  const std::shared_ptr<Working> working(
      new Working{pcre2_match_data_create_from_pattern(static_cast<const pcre2_code*>(code_.get()), nullptr),
                  pcre2_match_context_create(nullptr)},
      [](Working* held) {
        pcre2_match_data_free(held->data);
        pcre2_match_context_free(held->context);
        delete held;
      });
  if (working->data == nullptr || working->context == nullptr)
    throw MemoryError({.where = "regular expression", .problem = "no memory to match"});
  pcre2_set_match_limit(working->context, kMatchLimit);
  data_ = working;
}

bool Regex::Matcher::search(std::string_view text, std::size_t from, Span& match) {
  if (code_ == nullptr) {
    const std::size_t found = text.find(literal_, from);
    if (found == std::string_view::npos) return false;
    match = {static_cast<std::uint32_t>(found), static_cast<std::uint32_t>(found + literal_.size())};
    return true;
  }
  auto* working = static_cast<Working*>(data_.get());
  const auto* code = static_cast<const pcre2_code*>(code_.get());
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  int found = pcre2_match(code, subject, text.size(), from, PCRE2_NO_UTF_CHECK, working->data, working->context);
  if (found == PCRE2_ERROR_JIT_STACKLIMIT)
    found = pcre2_match(code, subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, working->data,
                        working->context);
  if (found == PCRE2_ERROR_NOMATCH) return false;
  if (found < 0) {
    unsigned char message[256] = {};
    pcre2_get_error_message(found, message, sizeof message);
    throw ValueError({.where = "regular expression",
                      .problem = fmt::format("matching gave up: {}", reinterpret_cast<const char*>(message)),
                      .hint = "shorten the text or simplify the tokenizer's pattern"});
  }
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(working->data);
  match = {static_cast<std::uint32_t>(bounds[0]), static_cast<std::uint32_t>(std::max(bounds[0], bounds[1]))};
  return true;
}

}  // namespace tenon::text
