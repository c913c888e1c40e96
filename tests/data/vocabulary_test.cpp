// Character vocabularies and the UTF-8 that they stand on.
#include "tenon/data/vocabulary.h"

#include "tenon/data/utf8.h"
#include "tests/data/support.h"

namespace tenon::data::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(CharVocabulary, NumbersCharactersInCodePointOrder) {
  const CharVocabulary vocabulary("hello, wörld €😀\n");
  EXPECT_EQ(vocabulary.characters(), "\n ,dehlorwö€😀");
  EXPECT_EQ(vocabulary.size(), 13);
  const auto tokens = vocabulary.encode("öld😀");
  EXPECT_THAT(tokens, ElementsAre(10, 6, 3, 12));
  EXPECT_EQ(vocabulary.decode(tokens), "öld😀");
  EXPECT_EQ(CharVocabulary(vocabulary.characters()), vocabulary);
}

TEST(CharVocabulary, TinyShakespeareHasTheWellKnown65) {
  const auto path = shared("tinyshakespeare/data/tinyshakespeare/input.txt");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "needs the shared text";
  const CharVocabulary vocabulary(read_text_file(path));
  EXPECT_EQ(vocabulary.characters(), "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");
  EXPECT_EQ(vocabulary.encode("A")[0], 13);
}

TEST(CharVocabulary, StrangersAreErrors) {
  const CharVocabulary vocabulary("abc");
  EXPECT_EQ(
      error_text<ValueError>([&] { (void)vocabulary.encode("abé"); }),
      "CharVocabulary::encode: character 2 of the text is not in the vocabulary; expected one of the 3 characters of "
      "the training text, got 'é'\n  try: leave it out, or train on a text that has it");
  EXPECT_EQ(error_text<IndexError>([&] { (void)vocabulary.decode(std::vector<std::int64_t>{3}); }),
            "CharVocabulary::decode: no such token; expected 0 to 2, got 3");
}

TEST(Utf8, RefusesWhatTheStandardRefuses) {
  for (const std::string bad :
       {"\x80", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf8", "\xe2\x82", "\xc3("}) {
    EXPECT_THAT(error_text<FormatError>([&] { require_utf8("ok" + bad, "t.txt"); }),
                HasSubstr("t.txt: the text is not UTF-8 at byte 2"))
        << ::testing::PrintToString(bad);
  }
  EXPECT_EQ(decode_utf8("\xf4\x8f\xbf\xbf", "x")[0], char32_t{0x10ffff});
}

}  // namespace
}  // namespace tenon::data::testing
