#include "cli/eval/grade.h"

#include <gtest/gtest.h>

namespace conclave::cli {
namespace {

Grader GraderOf(const std::string& answer, Match match) {
  Problem problem;
  problem.answer = answer;
  problem.match = match;
  return *Grader::Make(problem);
}

TEST(GraderTest, AnswersAreComparedInTheVotesForm) {
  const Grader grader = GraderOf("1,000", Match::kKey);
  EXPECT_TRUE(grader.IsRight("1000.0"));
  EXPECT_TRUE(grader.IsRight(" 1e3 "));
  EXPECT_FALSE(grader.IsRight("1001"));
  EXPECT_FALSE(grader.IsRight(""));
  EXPECT_TRUE(GraderOf("Yes", Match::kKey).IsRight("yes"));
}

TEST(GraderTest, NumbersAreEqualHoweverTheyAreWritten) {
  const Grader half = GraderOf("0.5", Match::kNumber);
  EXPECT_TRUE(half.IsRight("1/2"));
  EXPECT_TRUE(half.IsRight(".50"));
  EXPECT_FALSE(half.IsRight("1/0"));
  EXPECT_FALSE(half.IsRight("half"));
  EXPECT_TRUE(GraderOf("$1,234", Match::kNumber).IsRight("1234"));
  EXPECT_FALSE(GraderOf("1234", Match::kNumber).IsRight("1235"));
}

TEST(GraderTest, ACheckerJudgesWhateverIsExpected) {
  Problem problem;
  problem.answer = "2*11";
  problem.match = Match::kChecker;
  problem.checker.emplace().mutable_arithmetic()->set_value("22");
  problem.checker->mutable_arithmetic()->add_numbers(11);
  problem.checker->mutable_arithmetic()->add_numbers(2);

  const Grader grader = *Grader::Make(problem);

  EXPECT_TRUE(grader.IsRight("11*2"));
  EXPECT_FALSE(grader.IsRight("22"));
  EXPECT_FALSE(grader.IsRight("11+11"));
}

TEST(GraderTest, ACheckerThatIsNoneIsRefused) {
  Problem problem;
  problem.match = Match::kChecker;
  problem.checker.emplace().set_regex("(");
  EXPECT_EQ(Grader::Make(problem).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(PlainLatexTest, WhatIsOnlySetDifferentlyIsTheSame) {
  EXPECT_EQ(PlainLatex("\\dfrac{1}{2}"), "\\frac{1}{2}");
  EXPECT_EQ(PlainLatex("\\frac12"), "\\frac{1}{2}");
  EXPECT_EQ(PlainLatex("-3/4"), "-\\frac{3}{4}");
  EXPECT_EQ(PlainLatex("x = \\left( 1, 2 \\right)"), "(1,2)");
  EXPECT_EQ(PlainLatex("90^\\circ"), "90");
  EXPECT_EQ(PlainLatex("$12\\%$."), "12");
  EXPECT_EQ(PlainLatex("5\\text{ cm}"), "5");
  EXPECT_EQ(PlainLatex("\\text{Evelyn}"), "Evelyn");
}

TEST(PlainLatexTest, WhatIsSomethingElseStaysSo) {
  EXPECT_NE(PlainLatex("\\frac{1}{2}"), PlainLatex("\\frac{2}{1}"));
  EXPECT_NE(PlainLatex("(1,2)"), PlainLatex("[1,2]"));
  EXPECT_EQ(PlainLatex("\\frac"), "\\frac");
  EXPECT_EQ(PlainLatex("\\frac{1"), "\\frac{1");
  EXPECT_EQ(PlainLatex("\\text{"), "\\text{");
  EXPECT_EQ(PlainLatex(""), "");
}

}  // namespace
}  // namespace conclave::cli
