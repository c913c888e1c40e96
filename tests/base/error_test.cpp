#include "tenon/base/error.h"

#include <gtest/gtest.h>

TEST(Error, TextNamesPlaceProblemExpectedGotAndHint) {
  const tenon::ShapeError error({"add", "shapes do not broadcast", "[2, 3]", "[4]", "reshape(x, {4, 1})"});
  EXPECT_STREQ(error.what(), "add: shapes do not broadcast; expected [2, 3], got [4]\n  try: reshape(x, {4, 1})");
  EXPECT_EQ(error.parts().got, "[4]");
}

TEST(Error, InternalErrorIsNotAUserError) { EXPECT_FALSE((std::is_base_of_v<tenon::Error, tenon::InternalError>)); }
