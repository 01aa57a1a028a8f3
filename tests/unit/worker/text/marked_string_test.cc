#include "worker/text/marked_string.h"

#include <gtest/gtest.h>

namespace conclave::worker {
namespace {

// The authors as a picture: 't' for the template's bytes, 'c' for the caller's.
std::string Authors(const MarkedString& text) {
  std::string picture;
  for (size_t i = 0; i < text.size(); ++i) {
    picture += text.author_at(i) == Author::kTemplate ? 't' : 'c';
  }
  return picture;
}

MarkedString Mixed() {
  MarkedString text = MarkedString::Template("ab ");
  text.Append(MarkedString::Caller(" cd "));
  text.Append("ef", Author::kTemplate);
  return text;  // "ab  cd ef"
}

TEST(MarkedStringTest, KeepsTheAuthorOfEachByte) {
  EXPECT_EQ(Mixed().text(), "ab  cd ef");
  EXPECT_EQ(Authors(Mixed()), "tttcccctt");
}

TEST(MarkedStringTest, JoinsNeighboursOfOneAuthor) {
  MarkedString text = MarkedString::Caller("a");
  text.Append("b", Author::kCaller);
  text.Append("", Author::kTemplate);

  EXPECT_EQ(text.runs(), (std::vector<MarkedString::Run>{{2, Author::kCaller}}));
}

TEST(MarkedStringTest, SlicesWithMarks) {
  const MarkedString slice = Mixed().Slice(2, 3);

  EXPECT_EQ(slice.text(), "  c");
  EXPECT_EQ(Authors(slice), "tcc");
  EXPECT_TRUE(Mixed().Slice(9).empty());
}

TEST(MarkedStringTest, AppendsItself) {
  MarkedString text = Mixed();
  text.Append(text);

  EXPECT_EQ(Authors(text), "tttcccctttttcccctt");
}

TEST(MarkedStringTest, StripsBothEnds) {
  const MarkedString text = Mixed().Slice(2, 5).Strip(" ");

  EXPECT_EQ(text.text(), "cd");
  EXPECT_EQ(Authors(text), "cc");
  EXPECT_TRUE(MarkedString::Caller("  ").Strip(" ").empty());
}

TEST(MarkedStringTest, ReplacesWithTheReplacementsMarks) {
  const MarkedString text = Mixed().Replace(" ", MarkedString::Template("_"));

  EXPECT_EQ(text.text(), "ab__cd_ef");
  EXPECT_EQ(Authors(text), "ttttccttt");
  EXPECT_EQ(Mixed().Replace(" ", {}, 1).text(), "ab cd ef");
}

TEST(MarkedStringTest, SplitsWithMarks) {
  const std::vector<MarkedString> parts = Mixed().Split(" ");

  ASSERT_EQ(parts.size(), 4u);
  EXPECT_EQ(parts[2].text(), "cd");
  EXPECT_EQ(Authors(parts[2]), "cc");
  EXPECT_EQ(Mixed().Split(" ", 1)[1].text(), " cd ef");
}

TEST(MarkedStringTest, KnowsWhetherTheTemplateWroteARange) {
  EXPECT_TRUE(Mixed().WrittenByTemplate(0, 3));
  EXPECT_FALSE(Mixed().WrittenByTemplate(2, 4));
  EXPECT_TRUE(Mixed().WrittenByTemplate(7, 9));
  EXPECT_TRUE(Mixed().WrittenByTemplate(4, 4));
}

TEST(MarkedStringTest, ComparesAsPlainText) {
  EXPECT_EQ(MarkedString::Template("x"), MarkedString::Caller("x"));
}

}  // namespace
}  // namespace conclave::worker
