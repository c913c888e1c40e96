// Regular expressions over Unicode text, in the dialect that published tokenizers are written in (Oniguruma's).
//
// PCRE2 does the matching; what the two dialects mean differently is translated: \s is White_Space, \w is letters,
// marks, digits and connectors, ^ and $ are lines' ends, and a class may hold an intersection: [\p{L}&&[^\p{Han}]].
// A Regex is immutable; a Matcher holds what one thread needs while it searches.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "tenon/text/aligned_text.h"

namespace tenon::text {

class Regex {
 public:
  // Errors: FormatError naming `where` and the place in the pattern that is wrong.
  Regex(std::string_view pattern, std::string_view where);
  // The text itself, every character meaning itself.
  static Regex literal(std::string_view text);

  class Matcher {
   public:
    explicit Matcher(const Regex& regex);
    // The first match at or after `from`, in UTF-8 `text`; false if there is none.
    // Errors: ValueError if the pattern needs too many steps on this text.
    bool search(std::string_view text, std::size_t from, Span& match);
    // Calls fn(Span) for each match from left to right; an empty one right behind another does not count.
    template <class Fn>
    void for_each(std::string_view text, Fn&& fn) {
      std::size_t from = 0;
      std::size_t last_end = static_cast<std::size_t>(-1);
      Span match;
      while (from <= text.size() && search(text, from, match)) {
        if (match.begin == match.end && match.end == last_end) {
          from += from < text.size() ? code_point_length(text[from]) : 1;
          continue;
        }
        from = last_end = match.end;
        fn(match);
      }
    }

   private:
    std::shared_ptr<const void> code_;
    std::shared_ptr<void> data_;
    std::string_view literal_;
  };

 private:
  Regex() = default;
  std::shared_ptr<const void> code_;
  std::string pattern_;
  std::string literal_;  // not empty: search for this text
};

}  // namespace tenon::text
