#include "cli/round.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/cli/events.h"

namespace conclave::cli {
namespace {

using State = AgentRow::State;
using testing::HasSubstr;

Round After(const std::vector<v1::GenerateResponse>& events) {
  Round round;
  for (const v1::GenerateResponse& event : events) round.On(event);
  return round;
}

TEST(RoundTest, PlannedAgentsWaitUntilTheyEnter) {
  const Round round = After({Admitted(3), Started(1)});

  EXPECT_EQ(round.Count(State::kWaiting), 2);
  EXPECT_EQ(round.agents().at(1).state, State::kThinking);
  EXPECT_EQ(round.agents().at(1).grant, 400);
}

TEST(RoundTest, AnAgentsAnswerReplacesItsThinking) {
  const Round round =
      After({Admitted(1), Started(0), Thinking(0, "3*5", 3), Answering(0, "15", 5)});

  EXPECT_EQ(round.agents().at(0).state, State::kAnswering);
  EXPECT_EQ(round.agents().at(0).text, "15");
  EXPECT_EQ(round.agents().at(0).tokens, 5);
}

TEST(RoundTest, TheOneWhoWritesTheAnswerIsAnswering) {
  const Round round = After({Admitted(2), Started(kSynthesiser), Thinking(kSynthesiser, "hm"),
                             AnswerText("5", kSynthesiser), AnswerText("7", kSynthesiser)});

  EXPECT_EQ(round.answer(), "57");
  EXPECT_EQ(round.agents().at(kSynthesiser).state, State::kAnswering);
  EXPECT_EQ(round.agents().at(kSynthesiser).text, "57");
}

TEST(RoundTest, WhoWouldHaveAnsweredTheWholeIsForgottenOnceItsPartsAre) {
  Round round = After({Admitted(3), Started(kSplitter), Finished(kSplitter, "", 9)});
  EXPECT_EQ(round.Count(State::kWaiting), 3) << "it may not be split";

  round.On(Started(OfPart(0, 0)));
  round.On(Started(OfPart(1, 0)));

  EXPECT_EQ(round.agents().size(), 3u);
  EXPECT_EQ(round.Count(State::kWaiting), 0);
}

TEST(RoundTest, AnAgentsTextIsBoundedAndBeginsWithAWholeCharacter) {
  Round round = After({Admitted(1), Started(0)});

  for (int i = 0; i < 10'000; ++i) round.On(Thinking(0, "\u6f22"));

  EXPECT_LE(round.agents().at(0).text.size(), 4096u);
  EXPECT_EQ(round.agents().at(0).text.substr(0, 3), "\u6f22");
}

TEST(RoundTest, AServerThatPlansAbsurdlyManyAgentsCostsNoMemory) {
  EXPECT_LE(After({Admitted(2'000'000'000)}).agents().size(), 1024u);
}

TEST(RoundTest, CompletionEndsEveryAgentAndBringsTheReceiptsCounts) {
  v1::GenerateResponse end = Completed("57");
  v1::AgentUsage& usage = *end.mutable_completed()->mutable_receipt()->add_agents();
  usage.set_agent(0);
  usage.set_kept(53);

  const Round round = After({Admitted(2), Started(0), Thinking(0, "x", 50), end});

  EXPECT_TRUE(round.is_complete());
  EXPECT_EQ(round.answer(), "57");
  EXPECT_EQ(round.agents().at(0).state, State::kDone);
  EXPECT_EQ(round.agents().at(0).tokens, 53);
  EXPECT_EQ(round.agents().at(1).state, State::kLeftOut);
}

TEST(RoundTest, WhatHappenedIsKeptInOrderAndBounded) {
  Round round = After({Admitted(1)});
  v1::GenerateResponse change;
  for (int i = 0; i < 1000; ++i) {
    change.mutable_group_changed()->set_reason(std::to_string(i));
    change.mutable_group_changed()->set_resumed(i % 2 == 1);
    round.On(change);
  }

  EXPECT_EQ(round.notices().size(), 64u);
  EXPECT_EQ(round.notices().back().text, "999");
  EXPECT_FALSE(round.notices().back().is_bad);
  EXPECT_TRUE(round.notices()[62].is_bad);
}

TEST(KnownTextTest, SaysWhatCameBeforeTheRequestWasCancelled) {
  const Round round = After({Admitted(4), Started(0), Started(1), Started(2), Finished(0, "57", 53),
                             Cut(1, 40), Thinking(2, "x", 7), VoteOf({{"57", 1}}, 3, -2)});

  const std::string text = KnownText(round);

  EXPECT_THAT(text, HasSubstr("r1  seed 7"));
  EXPECT_THAT(text, HasSubstr("1 done, 1 cut, 1 running, 1 waiting"));
  EXPECT_THAT(text, HasSubstr("tokens         100"));
  EXPECT_THAT(text, HasSubstr("1 for 57"));
  EXPECT_THAT(text, HasSubstr("none of it"));
}

TEST(KnownTextTest, SaysThatNothingWasAdmitted) {
  EXPECT_EQ(KnownText(Round()), "no receipt: the request was not admitted\n");
}

}  // namespace
}  // namespace conclave::cli
