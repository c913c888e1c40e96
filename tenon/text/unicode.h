// What the tokenizers ask of Unicode: classes of characters, lower case, the normal forms, graphemes.
//
// The tables are those of utf8proc. The names of the classes are those of the `tokenizers` package, whose results are
// the reference: is_control is Cc, Cf and Co, is_punctuation is every P category and ASCII's punctuation.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "tenon/text/aligned_text.h"

namespace tenon::text {

bool is_whitespace(char32_t c);  // the property White_Space
bool is_control(char32_t c);
bool is_punctuation(char32_t c);
bool is_numeric(char32_t c);          // Nd, Nl, No
bool is_nonspacing_mark(char32_t c);  // Mn
bool is_combining_mark(char32_t c);   // Mn, Mc, Me
bool is_word_character(char32_t c);   // \w: alphabetic, marks, decimal digits, connectors, joiners
// False for unassigned characters, and for those younger than the reference's table.
bool has_script(char32_t c);
bool is_chinese_character(char32_t c);  // the blocks that BERT sets apart

// One or two code points ("İ" becomes "i" and a dot).
struct Lowered {
  char32_t first = 0;
  char32_t second = 0;  // 0: none
};
Lowered lower(char32_t c);
char32_t upper(char32_t c);  // of characters with one

enum class NormalForm : std::uint8_t { NFC, NFD, NFKC, NFKD };
// The characters of the normal form, each with its change (aligned_text.h).
std::vector<Change> normalize(std::string_view text, NormalForm form);
// True if every character is its own normal form and none moves: a quick test that may say false.
bool is_normalized(std::string_view text, NormalForm form);

// The length of the first extended grapheme cluster of a text that is not empty.
std::size_t grapheme_length(std::string_view text);

}  // namespace tenon::text
