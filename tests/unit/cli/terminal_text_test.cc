#include "cli/terminal_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace conclave::cli {
namespace {

using testing::ElementsAre;

TEST(PrintableTest, NoControlCharacterSurvivesButLineBreaksAndTabs) {
  for (int c = 1; c < 0x20; ++c) {
    const std::string text(1, static_cast<char>(c));
    EXPECT_EQ(Printable(text), c == '\n' || c == '\t' ? text : "?") << c;
  }
  EXPECT_EQ(Printable(std::string(1, '\0')), "?");
  EXPECT_EQ(Printable("\x7f"), "?");
  for (int c = 0x80; c < 0xa0; ++c) {
    EXPECT_EQ(Printable(std::string("\xc2") + static_cast<char>(c)), "?") << c;
  }
}

TEST(PrintableTest, ABareByteOfTheSecondControlSetIsNoUtf8AndIsReplaced) {
  EXPECT_EQ(Printable("a\x9b"
                      "2Jb"),
            "a\xef\xbf\xbd"
            "2Jb");
  EXPECT_EQ(Printable("cut \xe2\x82"), "cut \xef\xbf\xbd");
}

TEST(PrintableTest, TheWritingDirectionCannotBeTurned) {
  EXPECT_EQ(Printable("a\u202eb\u2066c\u200fd\u2028e"), "a?b?c?d?e");
}

TEST(PrintableTest, JoinersAndMarksOfRealScriptsStay) {
  const std::string family = "\U0001f468\u200d\U0001f469\u200d\U0001f467";
  EXPECT_EQ(Printable(family), family);
  EXPECT_EQ(Printable("e\u0301"), "e\u0301");
}

TEST(OneLineTest, LineBreaksAndRunsOfSpacesBecomeOneSpace) {
  EXPECT_EQ(OneLine("\n 3*5 =\n\n\t15 \n"), "3*5 = 15");
}

TEST(ColumnsTest, WideCharactersTakeTwoAndMarksNone) {
  EXPECT_EQ(Columns("abc"), 3);
  EXPECT_EQ(Columns("\u6f22\u5b57"), 4);        // Han.
  EXPECT_EQ(Columns("\uac00"), 2);              // A syllable of Hangul,
  EXPECT_EQ(Columns("\u1100\u1161"), 2);        // and the same of two letters.
  EXPECT_EQ(Columns("e\u0301"), 1);             // A combining acute accent.
  EXPECT_EQ(Columns("\u0e01\u0e33"), 2);        // Thai.
  EXPECT_EQ(Columns("\U0001f600"), 2);          // An emoji.
  EXPECT_EQ(Columns("\u2764"), 1);              // A heart as text,
  EXPECT_EQ(Columns("\u2764\ufe0f"), 2);        // and as an emoji.
  EXPECT_EQ(Columns("\u00e9\u03b1\u0436"), 3);  // Latin, Greek, Cyrillic.
  EXPECT_EQ(Columns("\uff21"), 2);              // Fullwidth.
}

TEST(FitTest, ALineThatFitsIsLeftAlone) {
  EXPECT_EQ(Fit("abcde", 5), "abcde");
  EXPECT_EQ(FitEnd("abcde", 5), "abcde");
}

TEST(FitTest, WhatIsLeftOutIsMarked) {
  EXPECT_EQ(Fit("abcdefgh", 6), "abc...");
  EXPECT_EQ(FitEnd("abcdefgh", 6), "...fgh");
  EXPECT_EQ(Fit("abcdefgh", 2), "ab");
  EXPECT_EQ(Fit("abc", 0), "");
}

TEST(FitTest, AWideCharacterIsNeverHalved) {
  EXPECT_EQ(Fit("\u6f22\u5b57\u6f22\u5b57", 6), "\u6f22...");
  EXPECT_EQ(FitEnd("\u6f22\u5b57\u6f22\u5b57", 6), "...\u5b57");
  EXPECT_EQ(Fit("\u6f22", 1), "");
}

TEST(FitTest, AMarkStaysWithItsLetter) {
  EXPECT_EQ(Fit("xe\u0301yyyyyy", 5), "xe\u0301...");
  EXPECT_EQ(FitEnd("xxxxxxe\u0301y", 5), "...e\u0301y");
}

TEST(WrapTest, LinesBreakAtSpacesWhereThereAreAny) {
  EXPECT_THAT(Wrap("one two three", 7), ElementsAre("one two", "three"));
  EXPECT_THAT(Wrap("abcdefgh", 3), ElementsAre("abc", "def", "gh"));
  EXPECT_THAT(Wrap("a\n\nb", 3), ElementsAre("a", "", "b"));
}

TEST(WrapTest, NoLineIsWiderThanAskedForAndNoCharacterIsLost) {
  const std::string text = "\u6f22\u5b57 a\u6f22 bb\u5b57\u5b57\u5b57 e\u0301e\u0301e\u0301 cc d";
  for (int columns = 2; columns < 12; ++columns) {
    std::string joined;
    for (const std::string& line : Wrap(text, columns)) {
      EXPECT_LE(Columns(line), columns) << line;
      joined += line;
    }
    std::string letters = text;
    std::erase(letters, ' ');
    std::erase(joined, ' ');
    EXPECT_EQ(joined, letters);
  }
}

TEST(QuotedTest, NothingIsHidden) {
  EXPECT_EQ(Quoted(" a\u6f22\"\\\n\t"), "\" a\u6f22\\\"\\\\\\n\\t\"");
  EXPECT_EQ(Quoted("\x1b[2J"), "\"\\x1b[2J\"");
  EXPECT_EQ(Quoted("\xe2\x96"), "\"\\xe2\\x96\"");
  EXPECT_EQ(Quoted("\u202e"), "\"\\xe2\\x80\\xae\"");  // Writes from right to left.
}

TEST(IsUtf8Test, TellsUtf8FromOtherBytes) {
  EXPECT_TRUE(IsUtf8("a\u6f22"));
  EXPECT_FALSE(IsUtf8("a\xff"));
  EXPECT_FALSE(IsUtf8("\xc0\xaf"));      // Overlong.
  EXPECT_FALSE(IsUtf8("\xed\xa0\x80"));  // A surrogate.
}

}  // namespace
}  // namespace conclave::cli
