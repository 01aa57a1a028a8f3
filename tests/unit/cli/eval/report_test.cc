#include "cli/eval/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/terminal_text.h"

namespace conclave::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

// `agents`: an answer for each, "r" is right.
Outcome OutcomeOf(const std::string& arm, int problem, bool right, const std::string& agents) {
  Outcome o;
  o.arm = arm;
  o.problem = std::to_string(problem);
  o.right = right;
  for (const char answer : agents) {
    const int tokens = 10 * (static_cast<int>(o.agents.size()) + 1);
    o.agents.push_back({.agent = static_cast<uint32_t>(o.agents.size()),
                        .answer = std::string(1, answer),
                        .right = answer == 'r',
                        .tokens = tokens});
    o.kept += tokens;
    o.critical_path = tokens;
  }
  o.seconds = 0.1 * (problem + 1);
  o.early.fill(right);
  return o;
}

// Four questions: the vote of four agents against one.
std::vector<Outcome> Four() {
  return {OutcomeOf("one", 0, true, "r"),      OutcomeOf("one", 1, false, "a"),
          OutcomeOf("one", 2, false, "a"),     OutcomeOf("one", 3, false, "a"),
          OutcomeOf("vote", 0, true, "rrab"),  OutcomeOf("vote", 1, true, "rrra"),
          OutcomeOf("vote", 2, false, "aabr"), OutcomeOf("vote", 3, false, "abab")};
}

EvalReport Made(const std::vector<Outcome>& outcomes) {
  return MakeReport("story:7 seed 1", 1, {"one", "vote"}, outcomes);
}

TEST(ReportTest, SharesAreOfTheQuestions) {
  const ArmReport vote = Made(Four()).arms[1];

  EXPECT_EQ(vote.asked, 4);
  EXPECT_EQ(vote.chosen.value, 0.5);
  EXPECT_EQ(vote.width, 4);
  EXPECT_DOUBLE_EQ(vote.mean.value, (0.5 + 0.75 + 0.25 + 0) / 4);
  EXPECT_EQ(vote.majority.value, 0.5);
  EXPECT_EQ(vote.pass.value, 0.75);
  EXPECT_EQ(vote.selection_loss.value, 0.25);
  EXPECT_EQ(vote.total.value, 100);
  EXPECT_EQ(vote.critical_path.value, 40);
  EXPECT_DOUBLE_EQ(vote.seconds_p50, 0.2);
  EXPECT_DOUBLE_EQ(vote.seconds_p99, 0.4);
}

TEST(ReportTest, ArmsAreComparedQuestionByQuestion) {
  const Comparison c = Made(Four()).arms[1].versus_first;

  EXPECT_EQ(c.questions, 4);
  EXPECT_EQ(c.only_this, 1);
  EXPECT_EQ(c.only_first, 0);
  EXPECT_EQ(c.p, 1);
  EXPECT_EQ(c.difference.value, 0.25);
  EXPECT_EQ(c.tokens.value, 10);
  EXPECT_EQ(c.critical_path.value, 4);
}

TEST(ReportTest, APoolShowsWhatVotesOfFewerComeTo) {
  const ArmReport vote = Made(Four()).arms[1];

  ASSERT_EQ(vote.curve.size(), 3u);
  EXPECT_EQ(vote.curve[1].k, 2);
  EXPECT_EQ(vote.curve[2].majority.value, 0.5);
  EXPECT_EQ(vote.curve[2].pass.value, 0.75);
  EXPECT_EQ(vote.curve[2].tokens, 100);
  EXPECT_NEAR(vote.curve[0].majority.value, vote.mean.value, 0.1);
  EXPECT_DOUBLE_EQ(vote.curve[0].pass.value, vote.mean.value);
  EXPECT_TRUE(Made(Four()).arms[0].curve.empty());
}

TEST(ReportTest, WhereAQuestionHadFewerAgentsThereIsNoCurve) {
  std::vector<Outcome> outcomes = Four();
  outcomes[5].agents.pop_back();
  EXPECT_TRUE(Made(outcomes).arms[1].curve.empty());
}

TEST(ReportTest, WhereAgentsWereCutThereIsNoCurve) {
  std::vector<Outcome> outcomes = Four();
  outcomes[5].cut = 1;
  EXPECT_TRUE(Made(outcomes).arms[1].curve.empty());
}

TEST(ReportTest, AnErrorIsAWrongAnswerThatCostsNothing) {
  std::vector<Outcome> outcomes = Four();
  outcomes[4] = Outcome();
  outcomes[4].arm = "vote";
  outcomes[4].problem = "0";
  outcomes[4].error = "UNAVAILABLE: gone";
  const ArmReport vote = Made(outcomes).arms[1];

  EXPECT_EQ(vote.errors, 1);
  EXPECT_EQ(vote.chosen.value, 0.25);
  EXPECT_EQ(vote.total.value, 100);
  EXPECT_EQ(vote.versus_first.only_first, 1);
}

TEST(ReportTest, OfAQuestionThatWasAskedAgainTheLastCounts) {
  std::vector<Outcome> outcomes = Four();
  outcomes.push_back(OutcomeOf("one", 1, true, "r"));
  EXPECT_EQ(Made(outcomes).arms[0].asked, 4);
  EXPECT_EQ(Made(outcomes).arms[0].chosen.value, 0.5);
}

TEST(ReportTextTest, NoLineIsWiderThanATerminal) {
  std::vector<Outcome> outcomes = Four();
  for (Outcome& o : outcomes) {
    if (o.arm == "one") o.arm = "a-name-of-24-characters_";
    o.kept = 9'876'543;
    o.discarded = 123'456;
    o.seconds = 12'345;
  }

  const std::string text =
      ReportText(MakeReport("story:7 seed 1", 1, {"a-name-of-24-characters_", "vote"}, outcomes));

  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(Columns(line), 120) << line;
}

TEST(ReportTextTest, TheTableSaysEveryArmItsComparisonAndItsCurve) {
  const std::string text = ReportText(Made(Four()));

  EXPECT_THAT(text, HasSubstr("story:7 seed 1, 4 questions"));
  EXPECT_THAT(text, testing::ContainsRegex(
                        "vote +50\\.0 \\[15\\.0,  85\\.0\\] +4 +37\\.5 +50\\.0 +75\\.0 +25\\.0"));
  EXPECT_THAT(text, testing::ContainsRegex("vote +\\+25\\.0 \\[.*\\] +1 +0 +1 +10\\.000"));
  EXPECT_THAT(text, HasSubstr("votes of vote"));
  EXPECT_THAT(text, HasSubstr("right so far"));
}

TEST(ReportTextTest, WhatMakesTheNumbersMeanLessIsSaid) {
  std::vector<Outcome> outcomes = Four();
  EXPECT_THAT(ReportText(Made(outcomes)), Not(HasSubstr("fewer agents")));
  outcomes[4].left_out = 2;
  outcomes[5].incomplete = true;
  outcomes[6].tries = 3;

  const std::string text = ReportText(Made(outcomes));

  EXPECT_THAT(text, HasSubstr("vote: 1 questions had fewer agents"));
  EXPECT_THAT(text, HasSubstr("vote: 1 answers were ended by"));
  EXPECT_THAT(text, HasSubstr("vote: 1 questions were refused at first"));
}

TEST(ReportToJsonTest, TheSummaryIsOneLineWithAllNumbers) {
  const std::string text = ReportToJson(Made(Four()));
  const auto json = nlohmann::json::parse(text)["summary"];

  EXPECT_EQ(text.find('\n'), std::string::npos);
  EXPECT_EQ(json["arms"][1]["right"]["value"], 0.5);
  EXPECT_EQ(json["arms"][1]["curve"].size(), 3u);
  EXPECT_EQ(json["arms"][1]["versus_first"]["only_this"], 1);
  EXPECT_EQ(json["arms"][1]["right_so_far"].size(), 10u);
}

int CountOf(const std::string& text, const std::string& what) {
  int count = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

TEST(ReportPageTest, ThePageNeedsNothingElseAndShowsEveryArmInEveryPlot) {
  const std::string page = ReportPage(Made(Four()));

  EXPECT_EQ(CountOf(page, "<svg "), 3);
  EXPECT_EQ(CountOf(page, "</svg>"), 3);
  EXPECT_EQ(CountOf(page, ">vote</text>"), 3);
  EXPECT_EQ(CountOf(page, ">maj@4</text>"), 2) << "nobody measured how long votes of fewer take";
  EXPECT_THAT(page, Not(HasSubstr("http")));
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, Not(HasSubstr("nan")));
  EXPECT_THAT(page, HasSubstr("prefers-color-scheme: dark"));
}

TEST(ReportPageTest, ArmsThatDifferInANumberAreJoined) {
  std::vector<Outcome> outcomes = {OutcomeOf("vote4", 0, true, "rrrr"),
                                   OutcomeOf("vote8", 0, true, "r")};
  const std::string page = ReportPage(MakeReport("s", 1, {"vote4", "vote8"}, outcomes));
  EXPECT_EQ(CountOf(page, "<polyline"), 5) << "three of the arms, two of vote4's own";
}

TEST(ReportPageTest, TextsAreEscaped) {
  EXPECT_THAT(ReportPage(MakeReport("<b>&", 1, {"one"}, {})), HasSubstr("&lt;b&gt;&amp;"));
}

TEST(ReportTest, NothingAskedIsNoTrouble) {
  const EvalReport report = MakeReport("s", 1, {"one", "vote"}, {});
  EXPECT_THAT(ReportText(report), HasSubstr("0 questions"));
  EXPECT_THAT(ReportPage(report), Not(HasSubstr("nan")));
}

}  // namespace
}  // namespace conclave::cli
