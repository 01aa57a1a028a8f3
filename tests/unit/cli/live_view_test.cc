#include "cli/live_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/terminal_text.h"
#include "tests/unit/cli/events.h"

namespace conclave::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// `agents` that think; each has written `text`.
Round Thinkers(int agents, const std::string& text = "3*5=15") {
  Round round;
  round.On(Admitted(agents));
  for (int i = 0; i < agents; ++i) {
    round.On(Started(static_cast<uint32_t>(i)));
    round.On(Thinking(static_cast<uint32_t>(i), text, 12));
  }
  return round;
}

std::vector<std::string> Texts(const std::vector<Line>& lines) {
  std::vector<std::string> texts;
  for (const Line& line : lines) texts.push_back(TextOf(line));
  return texts;
}

std::vector<std::string> Live(const Round& round, ViewSize size = {80, 24}) {
  return Texts(LiveLines(round, {.seconds = 3.25}, size));
}

TEST(LiveViewTest, BeforeAdmissionItSaysWhatItWaitsFor) {
  EXPECT_THAT(Live(Round()), testing::ElementsAre("waiting for the router  3.2 s  0 tokens"));
}

TEST(LiveViewTest, TheTitleCountsAgentsTokensAndSeconds) {
  EXPECT_EQ(Live(Thinkers(8))[0], "demo  8 agents  3.2 s  96 tokens  seed 7");
  EXPECT_THAT(Live(Thinkers(1))[0], HasSubstr("1 agent "));
}

TEST(LiveViewTest, TheTitleSaysHowManyStillRunAndHowFast) {
  Round round = Thinkers(8);
  round.On(Finished(2, "57", 53));

  const ViewTitle title = {.seconds = 0.5, .tokens_per_second = 1234.5, .frame = 5};
  EXPECT_EQ(TextOf(LiveLines(round, title, {80, 24})[0]),
            "/ demo  7 of 8 agents run  0.5 s  137 tokens  1234/s  seed 7");
}

TEST(LiveViewTest, AfterCtrlCTheTitleSaysThatItStops) {
  Round round = Thinkers(2);
  round.Stop();
  EXPECT_THAT(Live(round)[0], StartsWith("stopping  demo"));
  round.On(Completed("57"));
  EXPECT_THAT(Live(round)[0], StartsWith("demo"));
}

TEST(LiveViewTest, EachAgentHasARowWithItsStateTokensAndText) {
  Round round = Thinkers(4);
  round.On(Answering(1, "57", 51));
  round.On(Finished(2, "57", 53));
  round.On(Cut(3, 40));

  const std::vector<std::string> lines = Live(round);

  EXPECT_EQ(lines[1], "agent 1     thinking     12/400  3*5=15");
  EXPECT_EQ(lines[2], "agent 2     answering    51/400  57");
  EXPECT_EQ(lines[3], "agent 3     done             53  57  confidence 0.93");
  EXPECT_EQ(lines[4], "agent 4     cut              40  the answer is settled");
}

TEST(LiveViewTest, WhatAnAgentWouldAnswerNowAndWhatTheCheckerSaysStandInItsRow) {
  Round round = Thinkers(3);
  round.On(Probed(0, 64, "44"));
  round.On(Finished(1, "57", 53));
  round.On(Verdict(1, ""));
  round.On(Finished(2, "58", 54));
  round.On(Verdict(2, "it comes to 58"));

  const std::vector<std::string> lines = Live(round);

  EXPECT_EQ(lines[1], "agent 1     thinking     12/400  [44] 3*5=15");
  EXPECT_EQ(lines[2], "agent 2     done             53  57  accepted  confidence 0.93");
  EXPECT_EQ(lines[3], "agent 3     done             54  58  rejected  confidence 0.93");
}

TEST(LiveViewTest, TheVoteIsAHistogramWithTheStopRulesValue) {
  Round round = Thinkers(8);
  round.On(VoteOf({{"57", 4}, {"45", 2}}, 2, 0));

  const std::vector<std::string> lines = Live(round);

  EXPECT_EQ(lines[9], "vote        ##########..........   4   67%  57");
  EXPECT_EQ(lines[10], "            #####...............   2   33%  45");
  EXPECT_EQ(lines[11], "            6 counted, 2 to come; settled +0, stops above 0");
}

TEST(LiveViewTest, EachStopRuleSaysWhereItStandsAndWhereItStops) {
  Round round = Thinkers(8);
  round.On(VoteOf({{"57", 3}, {"45", 1}}, 4, 3));
  const std::pair<StopGoal, const char*> table[] = {
      {{"none"}, "no stop rule: every agent runs to its end"},
      {{"beta"}, "beta 3.000, stops at 0.95"},
      {{"window"}, "window 3 of 4 agree"},
      {{"first"}, "first 3 of 4"},
      {{"quorum"}, "quorum 3 of 5"},
      {{"quorum", 7}, "quorum 3 of 7"}};
  for (const auto& [goal, words] : table) {
    const auto lines = Texts(LiveLines(round, {.stop = goal}, {80, 24}));
    EXPECT_THAT(lines.back(), HasSubstr(words));
  }
}

TEST(LiveViewTest, WhereRowsAreFewAnAgentsCurrentLineIsShownNotTheOnesBefore) {
  Round round = Thinkers(2, "first thought\nsecond thought");
  EXPECT_EQ(Live(round, {80, 3})[1], "agent 1     thinking     12/400  second thought");
  round.On(Thinking(0, "\n", 13));
  EXPECT_EQ(Live(round, {80, 3})[1], "agent 1     thinking     13/400  second thought");
}

TEST(LiveViewTest, RowsThatAreLeftShowMoreOfWhatAgentsWrite) {
  Round round = Thinkers(1, "one\n\ntwo\nthree " + std::string(60, 'x'));
  EXPECT_THAT(Live(round),
              testing::ElementsAre(testing::_, "agent 1     thinking     12/400  one",
                                   "                                 two",
                                   "                                 three",
                                   "                                 " + std::string(46, 'x'),
                                   "                                 " + std::string(14, 'x')));
  EXPECT_EQ(Live(round, {80, 4}).size(), 4u);

  Round many = Thinkers(8, "one\ntwo\nthree");
  EXPECT_EQ(Live(many).size(), 1 + 2 * 8u);
  many.On(Finished(0, "57", 53));
  EXPECT_THAT(Live(many)[1], StartsWith("agent 1 "));
  EXPECT_EQ(Live(many)[2], "agent 2     thinking     12/400  two");
}

TEST(LiveViewTest, NarrowTerminalsGetShortWords) {
  Round round = Thinkers(2);
  round.On(Started(kSynthesiser));

  const std::vector<std::string> lines = Live(round, {40, 24});

  EXPECT_EQ(lines[1], "1      think   12  3*5=15");
  EXPECT_THAT(lines[3], StartsWith("merge "));
}

TEST(LiveViewTest, VeryNarrowTerminalsStillShowEveryAgentsStateAndText) {
  Round round = Thinkers(2);
  round.On(Finished(1, "57", 53));

  EXPECT_EQ(Live(round, {20, 24})[1], "1  ~   12  3*5=15");
  EXPECT_EQ(Live(round, {20, 24})[2], "2  =   53  57");
}

TEST(LiveViewTest, LongTextShowsItsEndWhileItGrowsAndItsBeginningWhenItIsDone) {
  Round round = Thinkers(2, std::string(200, 'x') + "END");
  round.On(Finished(1, "BEGIN" + std::string(200, 'y'), 53));

  const std::vector<std::string> lines = Live(round, {80, 3});

  EXPECT_THAT(lines[1], testing::EndsWith("xxEND"));
  EXPECT_THAT(lines[2],
              AllOf(HasSubstr("53  BEGIN"), testing::EndsWith("yyy...  confidence 0.93")));
}

TEST(LiveViewTest, SixtyFourAgentsFitTwentyFourRowsAndTheRestIsSummedUp) {
  Round round = Thinkers(64);
  for (uint32_t i = 0; i < 10; ++i) round.On(Finished(i, "57", 53));
  round.On(VoteOf({{"57", 10}}, 54, -44));
  round.On(AnswerText("5"));

  const std::vector<std::string> lines = Live(round);

  EXPECT_EQ(lines.size(), 24u);
  EXPECT_THAT(lines[1], StartsWith("agent 11 "));
  EXPECT_EQ(lines[20], "+ 45        more: 35 thinking, 10 done, 950 tokens");
  EXPECT_THAT(lines[21], StartsWith("vote "));
  EXPECT_THAT(lines[22], HasSubstr("10 counted, 54 to come"));
  EXPECT_THAT(lines[23], StartsWith("answer "));
}

TEST(LiveViewTest, ALongAnswerShowsItsEnd) {
  Round round = Thinkers(8);
  for (int i = 0; i < 100; ++i) round.On(AnswerText("line " + std::to_string(i) + "\n"));
  round.On(AnswerText("last"));

  const std::vector<std::string> lines = Live(round);

  EXPECT_EQ(lines.size(), 24u);
  EXPECT_EQ(lines[23], "            last");
  EXPECT_EQ(lines[22], "            line 99");
  EXPECT_THAT(lines[8], StartsWith("agent 8 "));
}

TEST(LiveViewTest, WhatAGroupWentThroughIsShown) {
  Round round = Thinkers(2);
  v1::GenerateResponse change;
  for (const char* reason : {"first", "second", "a rank was lost"}) {
    change.mutable_group_changed()->set_reason(reason);
    round.On(change);
  }
  change.mutable_group_changed()->set_reason("resumed");
  change.mutable_group_changed()->set_resumed(true);
  round.On(change);

  const std::vector<std::string> lines = Live(round);
  EXPECT_EQ(lines[3], "notice      second");
  EXPECT_EQ(lines[4], "notice      a rank was lost");
  EXPECT_EQ(lines[5], "notice      resumed");
  EXPECT_EQ(FinalLines(round, {}, 80).size(), 3 + 4u);  // For good, all of them.
}

// Everything at once, in every size: wide characters, marks, control sequences.
TEST(LiveViewTest, NoLineIsWiderOrLowerThanTheTerminalAndNoneSteersIt) {
  for (const int agents : {1, 8, 64}) {
    Round round = Thinkers(agents, "\u6f22\u5b57 e\u0301 \x1b[2J\x1b]0;t\x07\r\n\u202e \U0001f600");
    round.On(Finished(0, "\x1b[31m\u6f22\n\u5b57", 53));
    round.On(VoteOf({{"\x1b[2J\u6f22", 3}, {"b\xc2\x9b", 2}, {"c", 1}, {"d", 1}, {"e", 1}}, 2, 0));
    round.On(AnswerText("\u6f22\u5b57\u6f22\u5b57 \x1b[1A answer"));
    for (int columns = 1; columns < 130; columns += 3) {
      for (const int rows : {1, 2, 5, 10, 24, 80}) {
        const auto lines = LiveLines(round, {}, {columns, rows});
        EXPECT_LE(lines.size(), static_cast<size_t>(rows));
        for (const Line& line : lines) {
          EXPECT_LE(WidthOf(line), std::max(columns - 1, 0));
          EXPECT_EQ(OneLine(TextOf(line)).find_first_of("\x1b\x07\r\n"), std::string::npos);
          EXPECT_EQ(Printable(TextOf(line)), TextOf(line));
        }
      }
    }
  }
}

TEST(FinalViewTest, EveryAgentStays) {
  Round round = Thinkers(64);
  for (uint32_t i = 0; i < 64; ++i) round.On(Finished(i, "57", 53));
  round.On(Completed("57"));

  const std::vector<std::string> lines = Texts(FinalLines(round, {}, 80));

  EXPECT_EQ(lines.size(), 65u);
  EXPECT_THAT(lines[64], StartsWith("agent 64 "));
}

TEST(FinalViewTest, TheMergingAgentsAnswerIsItsText) {
  Round round = Thinkers(1);
  round.On(Started(kSynthesiser));
  round.On(AnswerText("57", kSynthesiser));
  v1::GenerateResponse finished = Finished(kSynthesiser, "", 9);
  finished.mutable_agent_finished()->clear_answer();
  round.On(finished);

  const std::vector<std::string> lines = Texts(FinalLines(round, {}, 80));

  EXPECT_EQ(lines[2], "synthesiser done              9  57");
  EXPECT_THAT(lines[2], Not(HasSubstr("no answer")));
}

}  // namespace
}  // namespace conclave::cli
