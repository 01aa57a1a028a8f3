#include "common/utf8.h"

#include <gtest/gtest.h>

namespace conclave {
namespace {

TEST(Utf8Test, EachMaximalInvalidPieceIsReplacedOnce) {
  EXPECT_EQ(ValidUtf8("a\xFF\xFE z"), "a\uFFFD\uFFFD z");
  EXPECT_EQ(ValidUtf8("\xE4\xB8 half, \xED\xA0\x80 surrogate"),
            "\uFFFD half, \uFFFD\uFFFD\uFFFD surrogate");
  EXPECT_EQ(ValidUtf8("cut \xF0\x9F\x98"), "cut \uFFFD");
}

TEST(Utf8Test, ValidTextIsLeftAsItIs) {
  const std::string text("a\0 \xC3\xA9 \xE4\xB8\xAD \xF0\x9F\x98\x80", 14);
  EXPECT_EQ(ValidUtf8(text), text);
  EXPECT_EQ(FirstInvalidUtf8(text), text.size());
}

TEST(Utf8Test, AFrontEndsWithAWholeCharacter) {
  const std::string text = "a\xE4\xB8\xAD z";
  EXPECT_EQ(FirstCharacters(text, 0), "");
  EXPECT_EQ(FirstCharacters(text, 1), "a");
  EXPECT_EQ(FirstCharacters(text, 3), "a");
  EXPECT_EQ(FirstCharacters(text, 4), "a\xE4\xB8\xAD");
  EXPECT_EQ(FirstCharacters(text, 99), text);
}

}  // namespace
}  // namespace conclave
