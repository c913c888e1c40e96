#include "tenon/text/scripts.h"

#include <array>
#include <memory>
#include <string>
#include <string_view>

#include "tenon/text/regex.h"
#include "tenon/text/unicode.h"

namespace tenon::text {
namespace {

// In order of how often they are met; the number is the script. Han stands for Hiragana and Katakana too. What has no
// script goes with its neighbours, as a space does.
constexpr std::array<std::string_view, 137> kScripts{"Hiragana",
                                                     "Katakana",
                                                     "Common",
                                                     "Latin",
                                                     "Han",
                                                     "Cyrillic",
                                                     "Greek",
                                                     "Arabic",
                                                     "Hebrew",
                                                     "Hangul",
                                                     "Devanagari",
                                                     "Thai",
                                                     "Armenian",
                                                     "Georgian",
                                                     "Bengali",
                                                     "Gurmukhi",
                                                     "Gujarati",
                                                     "Oriya",
                                                     "Tamil",
                                                     "Telugu",
                                                     "Kannada",
                                                     "Malayalam",
                                                     "Sinhala",
                                                     "Lao",
                                                     "Tibetan",
                                                     "Myanmar",
                                                     "Ethiopic",
                                                     "Cherokee",
                                                     "Khmer",
                                                     "Mongolian",
                                                     "Bopomofo",
                                                     "Yi",
                                                     "Inherited",
                                                     "Syriac",
                                                     "Thaana",
                                                     "Ogham",
                                                     "Runic",
                                                     "Tagalog",
                                                     "Hanunoo",
                                                     "Buhid",
                                                     "Tagbanwa",
                                                     "Limbu",
                                                     "Tai_Le",
                                                     "Braille",
                                                     "Coptic",
                                                     "Gothic",
                                                     "Deseret",
                                                     "Glagolitic",
                                                     "Tifinagh",
                                                     "New_Tai_Lue",
                                                     "Nko",
                                                     "Balinese",
                                                     "Sundanese",
                                                     "Lepcha",
                                                     "Ol_Chiki",
                                                     "Vai",
                                                     "Cham",
                                                     "Javanese",
                                                     "Samaritan",
                                                     "Lisu",
                                                     "Bamum",
                                                     "Meetei_Mayek",
                                                     "Adlam",
                                                     "Ahom",
                                                     "Anatolian_Hieroglyphs",
                                                     "Avestan",
                                                     "Bassa_Vah",
                                                     "Batak",
                                                     "Bhaiksuki",
                                                     "Brahmi",
                                                     "Buginese",
                                                     "Canadian_Aboriginal",
                                                     "Carian",
                                                     "Caucasian_Albanian",
                                                     "Chakma",
                                                     "Cuneiform",
                                                     "Cypriot",
                                                     "Duployan",
                                                     "Egyptian_Hieroglyphs",
                                                     "Elbasan",
                                                     "Grantha",
                                                     "Hatran",
                                                     "Imperial_Aramaic",
                                                     "Inscriptional_Pahlavi",
                                                     "Inscriptional_Parthian",
                                                     "Kaithi",
                                                     "Kayah_Li",
                                                     "Kharoshthi",
                                                     "Khojki",
                                                     "Khudawadi",
                                                     "Linear_A",
                                                     "Linear_B",
                                                     "Lycian",
                                                     "Lydian",
                                                     "Mahajani",
                                                     "Mandaic",
                                                     "Manichaean",
                                                     "Marchen",
                                                     "Mende_Kikakui",
                                                     "Meroitic_Cursive",
                                                     "Meroitic_Hieroglyphs",
                                                     "Miao",
                                                     "Modi",
                                                     "Mro",
                                                     "Multani",
                                                     "Nabataean",
                                                     "Newa",
                                                     "Old_Hungarian",
                                                     "Old_Italic",
                                                     "Old_North_Arabian",
                                                     "Old_Permic",
                                                     "Old_Persian",
                                                     "Old_South_Arabian",
                                                     "Old_Turkic",
                                                     "Osage",
                                                     "Osmanya",
                                                     "Pahawh_Hmong",
                                                     "Palmyrene",
                                                     "Pau_Cin_Hau",
                                                     "Phags_Pa",
                                                     "Phoenician",
                                                     "Psalter_Pahlavi",
                                                     "Rejang",
                                                     "Saurashtra",
                                                     "Sharada",
                                                     "Shavian",
                                                     "Siddham",
                                                     "SignWriting",
                                                     "Sora_Sompeng",
                                                     "Syloti_Nagri",
                                                     "Tai_Tham",
                                                     "Tai_Viet",
                                                     "Takri",
                                                     "Tangut",
                                                     "Tirhuta",
                                                     "Ugaritic",
                                                     "Warang_Citi"};

constexpr int kHan = 4;  // its place above

// A pattern for each script, so that PCRE2's tables answer.
const Regex& script_pattern(std::size_t script) {
  static const auto patterns = [] {
    std::array<std::unique_ptr<Regex>, kScripts.size()> made;
    for (std::size_t i = 0; i < made.size(); ++i)
      made[i] = std::make_unique<Regex>("\\A\\p{sc:" + std::string(kScripts[i]) + "}", "UnicodeScripts");
    return made;
  }();
  return *patterns[script];
}

}  // namespace

int script_of(char32_t c) {
  if (c == ' ') return any_script;
  if (c == 0x30fc || (c >= 0x3041 && c <= 0x3096) || (c >= 0x309d && c <= 0x309f) || (c >= 0x30a1 && c <= 0x30fa) ||
      (c >= 0x30fd && c <= 0x30ff) || (c >= 0x4e00 && c <= 0x9fff))
    return kHan;
  if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return kHan - 1;
  if (c < 0x80) return kHan - 2;
  if (!has_script(c)) return any_script;
  std::string text;
  append_code_point(text, c);
  Span match;
  for (std::size_t script = 0; script < kScripts.size(); ++script)
    if (Regex::Matcher(script_pattern(script)).search(text, 0, match))
      return script < 2 ? kHan : static_cast<int>(script);
  return static_cast<int>(kScripts.size());
}

}  // namespace tenon::text
