#include "cli/eval/protocol.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "common/answer/answer_key.h"

namespace conclave::cli {
namespace {

using testing::HasSubstr;
using Rows = std::vector<std::vector<std::string>>;

const SuiteRange kAll = {.seed = 1, .offset = 0, .count = 1000};

absl::StatusOr<Suite> Parse(const std::string& protocol, const std::string& text,
                            const SuiteRange& range = kAll, int repeats = 4) {
  return ParseProtocol(protocol, text, *LoadPrompts(), range, repeats);
}

std::string Found(const Suite& suite, const std::string& text) {
  AnswerKeySpec spec{.kind = suite.answer_key->kind() == v1::AnswerKey::KIND_BOXED
                                 ? AnswerKeySpec::Kind::kBoxed
                                 : AnswerKeySpec::Kind::kRegex,
                     .argument = suite.answer_key->argument()};
  return AnswerKey::Parse(spec)->Extract(text).value_or("none");
}

TEST(Gsm8kTest, TheAnswerStandsBehindFourHashSigns) {
  const auto suite =
      Parse("gsm8k", R"({"question": "How much?", "answer": "2*600=1200\n#### 1,200"})");

  ASSERT_TRUE(suite.ok()) << suite.status();
  EXPECT_EQ(suite->problems[0].answer, "1,200");
  EXPECT_EQ(suite->problems[0].match, Match::kNumber);
  EXPECT_THAT(suite->problems[0].question, HasSubstr("How much?"));
  EXPECT_EQ(Found(*suite, "So it is\n#### 1,200."), "1200");
  EXPECT_EQ(Found(*suite, "#### $-5"), "none");
  EXPECT_EQ(Found(*suite, "#### -$5"), "-5");
}

TEST(MathTest, TheAnswerStandsInABox) {
  const auto suite = Parse(
      "math500",
      R"({"problem": "Half?", "solution": "...", "answer": "\\frac{1}{2}", "unique_id": "t"})");

  ASSERT_TRUE(suite.ok()) << suite.status();
  EXPECT_EQ(suite->problems[0].id, "t");
  EXPECT_EQ(suite->problems[0].answer, "\\frac{1}{2}");
  EXPECT_EQ(suite->problems[0].match, Match::kLatex);
  EXPECT_EQ(Found(*suite, "it is \\boxed{\\frac{1}{2}}."), "\\frac{1}{2}");
}

constexpr char kGpqa[] =
    "Subdomain,Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3\n"
    "x,\"What, if\nanything?\",right,w1,\"w \"\"2\"\"\",w3\n"
    "x,And then?,r,a,b,c\n";

TEST(GpqaTest, EachQuestionIsAskedWithItsChoicesInFourOrders) {
  const auto suite = Parse("gpqa", kGpqa);

  ASSERT_TRUE(suite.ok()) << suite.status();
  ASSERT_EQ(suite->problems.size(), 8u);
  EXPECT_EQ(suite->problems[1].id, "1/2");
  EXPECT_EQ(suite->problems[4].id, "2/1");
  for (const Problem& problem : suite->problems) {
    const std::string right = problem.id[0] == '1' ? "right" : "r";
    EXPECT_THAT(problem.question, HasSubstr("\n" + problem.answer + ") " + right + "\n"));
  }
  EXPECT_THAT(suite->problems[0].question, HasSubstr("What, if\nanything?"));
  EXPECT_THAT(suite->problems[0].question, HasSubstr(") w \"2\""));
  EXPECT_EQ(suite->problems[0].question.substr(suite->problems[0].question.size() - 15),
            "Answer: $LETTER");
}

TEST(GpqaTest, TheOrdersAreDrawnEvenlyByTheSeed) {
  std::map<std::string, int> places;
  std::set<std::string> orders;
  const auto suite = Parse("gpqa", kGpqa, kAll, 400);
  for (const Problem& problem : suite->problems) {
    ++places[problem.answer];
    orders.insert(problem.question);
  }

  EXPECT_EQ(orders.size(), 48u);
  EXPECT_EQ(places.size(), 4u);
  for (const auto& [letter, count] : places) EXPECT_NEAR(count, 200, 60) << letter;
  EXPECT_EQ(Parse("gpqa", kGpqa)->problems[3].question, suite->problems[3].question);
  EXPECT_EQ(Parse("gpqa", kGpqa, {.seed = 1, .offset = 1, .count = 1})->problems[0].question,
            Parse("gpqa", kGpqa)->problems[4].question);
}

TEST(GpqaTest, TheLetterIsFoundAsThePublishedPatternDoes) {
  const auto suite = Parse("gpqa", kGpqa);
  EXPECT_EQ(Found(*suite, "Answer: $LETTER\nanswer :\t$C$"), "c");
  EXPECT_EQ(Found(*suite, "I think E"), "none");
}

TEST(GpqaTest, AColumnThatIsMissingIsNamed) {
  EXPECT_THAT(Parse("gpqa", "Question,Correct Answer\na,b\n").status().ToString(),
              HasSubstr("no column \"Incorrect Answer 1\""));
  EXPECT_EQ(Parse("gpqa", "").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Parse("gpqa", std::string(kGpqa) + "x,short\n").status().ToString(),
              HasSubstr("row 3"));
}

TEST(ProtocolTest, WhatIsWrongIsSaidWithItsLine) {
  EXPECT_THAT(Parse("gsm8k", "\n{\"question\": \"q\", \"answer\": \"5\"}").status().ToString(),
              HasSubstr("line 2: \"answer\" has no ####"));
  EXPECT_THAT(Parse("math500", "{\"question\": \"q\"}").status().ToString(),
              HasSubstr("line 1: there is no text \"problem\""));
  EXPECT_THAT(Parse("aime", "").status().ToString(), HasSubstr("gsm8k, math500, gpqa"));
}

TEST(ParseCsvTest, QuotedFieldsHoldWhatEndsOthers) {
  EXPECT_EQ(*ParseCsv("a,b\r\n\"c,\"\"d\"\"\n\",e\n"), (Rows{{"a", "b"}, {"c,\"d\"\n", "e"}}));
  EXPECT_EQ(*ParseCsv("a,\n,b"), (Rows{{"a", ""}, {"", "b"}}));
  EXPECT_EQ(*ParseCsv("a\n\n\nb"), (Rows{{"a"}, {"b"}}));
  EXPECT_EQ(*ParseCsv(""), Rows{});
}

TEST(ParseCsvTest, AQuoteThatIsNotClosedIsRefused) {
  EXPECT_THAT(ParseCsv("a\n\"b\nc").status().ToString(), HasSubstr("not closed"));
  EXPECT_THAT(ParseCsv("a\n\"b\"c\n").status().ToString(), HasSubstr("line 2"));
}

TEST(PromptsTest, OthersNeedTheirPlaces) {
  EXPECT_TRUE(LoadPrompts().ok());
  EXPECT_THAT(AskChoices("{question} {letters} {other}\n{choices}", "q {choices}", {"x", "y"}),
              "q {choices} AB {other}\nA) x\nB) y");
}

}  // namespace
}  // namespace conclave::cli
