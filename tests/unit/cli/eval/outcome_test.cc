#include "cli/eval/outcome.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/cli/events.h"

namespace conclave::cli {
namespace {

using testing::ElementsAre;

constexpr uint32_t kRound2 = 1u << 16, kPart = 3u << 24;

v1::GenerateResponse Ended(int64_t critical_path) {
  v1::GenerateResponse event = Completed("57");
  v1::Completed& completed = *event.mutable_completed();
  completed.set_method(v1::AGGREGATION_VOTE);
  v1::Receipt& receipt = *completed.mutable_receipt();
  receipt.set_critical_path_tokens(critical_path);
  receipt.set_thinking_tokens(100);
  receipt.set_answer_tokens(20);
  receipt.set_aggregation_tokens(3);
  receipt.set_discarded_tokens(7);
  receipt.set_probe_tokens(9);
  return event;
}

// What they come to; "57" is right.
Outcome OutcomeOf(const std::vector<v1::GenerateResponse>& events, bool right = true) {
  Watcher watcher([](std::string_view answer) { return answer == "57"; });
  for (const v1::GenerateResponse& event : events) watcher.On(event);
  EXPECT_NE(watcher.completed(), nullptr);
  return watcher.Take(right);
}

std::vector<int> EarlyOf(const Outcome& outcome) {
  return {outcome.early.begin(), outcome.early.end()};
}

TEST(WatcherTest, TheReceiptsSumsAreTaken) {
  const Outcome o = OutcomeOf({Admitted(1), Started(0), Ended(50)});

  EXPECT_EQ(o.method, "VOTE");
  EXPECT_EQ(o.kept, 123);
  EXPECT_EQ(o.aggregation, 3);
  EXPECT_EQ(o.total(), 139);
  EXPECT_EQ(o.critical_path, 50);
}

TEST(WatcherTest, AgentsStandInTheOrderInWhichTheirEndsWereCounted) {
  const Outcome o =
      OutcomeOf({Admitted(3), Started(0), Started(1), Started(2), Finished(2, "57", 30),
                 Finished(0, "56", 40), Cut(1, 40), Ended(40)});

  ASSERT_EQ(o.agents.size(), 2u);
  EXPECT_EQ(o.agents[0].agent, 2u);
  EXPECT_TRUE(o.agents[0].right);
  EXPECT_EQ(o.agents[0].tokens, 30);
  EXPECT_EQ(o.agents[1].answer, "56");
  EXPECT_FALSE(o.agents[1].right);
}

TEST(WatcherTest, AgentsThatFoundNoRoomAreCounted) {
  v1::GenerateResponse end = Ended(30);
  for (const auto kind : {v1::Decision::KIND_NARROW, v1::Decision::KIND_JOIN}) {
    v1::Decision& decision = *end.mutable_completed()->mutable_receipt()->add_decisions();
    decision.set_kind(kind);
    decision.add_agents(2);
    decision.add_agents(3);
  }
  EXPECT_EQ(OutcomeOf({Started(0), end}).left_out, 2);
}

TEST(WatcherTest, AnAgentBelowItsBarHasNoVote) {
  v1::GenerateResponse barred = Finished(0, "57", 10);
  barred.mutable_agent_finished()->set_reason(v1::FINISH_REASON_BAR);

  const Outcome o = OutcomeOf({Started(0), barred, Ended(10)});

  EXPECT_EQ(o.agents[0].answer, std::nullopt);
  EXPECT_FALSE(o.agents[0].right);
}

TEST(WatcherTest, ASingleAgentIsTakenFromTheReceipt) {
  v1::GenerateResponse end = Ended(30);
  v1::AgentUsage& usage = *end.mutable_completed()->mutable_receipt()->add_agents();
  usage.set_answer("57");
  usage.set_kept(30);

  const Outcome o = OutcomeOf({Started(0), end});

  ASSERT_EQ(o.agents.size(), 1u);
  EXPECT_TRUE(o.agents[0].right);
}

// Of 100 tokens in a row: 57 at 30, outvoted at 55 and 60, and again on top at 80.
TEST(WatcherTest, TheAnswerSoFarIsTheVotesLeaderAtEachPartOfTheTokenTime) {
  const Outcome o = OutcomeOf({Started(0), Started(1), Started(2), Started(3), Started(4),
                               Finished(0, "57", 30), Finished(1, "5", 55), Finished(2, "5", 60),
                               Finished(3, "57", 79), Finished(4, "57", 80), Ended(100)});

  EXPECT_THAT(EarlyOf(o), ElementsAre(0, 0, 1, 1, 1, 0, 0, 1, 1, 1));
}

TEST(WatcherTest, AgentsThatEnterLaterAreCountedFromThere) {
  v1::GenerateResponse join;
  join.mutable_decision()->set_kind(v1::Decision::KIND_JOIN);
  join.mutable_decision()->set_clock(20);
  join.mutable_decision()->add_agents(2);

  // Agent 1 enters when agent 0 is counted at 30: it ends at 70. Agent 2 entered at 20: at 90.
  const Outcome o = OutcomeOf({Started(0), join, Started(2), Finished(0, "5", 30), Started(1),
                               Finished(1, "57", 40), Finished(2, "57", 70), Ended(100)});

  EXPECT_THAT(EarlyOf(o), ElementsAre(0, 0, 0, 0, 0, 0, 0, 0, 1, 1));
}

TEST(WatcherTest, ProbesTellBeforeAgentsEnd) {
  const Outcome o =
      OutcomeOf({Started(0), Started(1), Probed(0, 20, ""), Probed(0, 40, "57"),
                 Probed(1, 50, "57"), Finished(0, "5", 90), Finished(1, "5", 95), Ended(100)},
                false);

  EXPECT_THAT(EarlyOf(o), ElementsAre(0, 0, 0, 1, 1, 1, 1, 1, 1, 0));
}

TEST(WatcherTest, WhatTheCheckerAcceptsIsTheAnswer) {
  const Outcome o = OutcomeOf({Started(0), Started(1), Started(2), Finished(0, "5", 10),
                               Verdict(0, "no"), Finished(1, "5", 20), Verdict(1, "no"),
                               Finished(2, "57", 30), Verdict(2, ""), Ended(30)});

  EXPECT_THAT(EarlyOf(o), ElementsAre(0, 0, 0, 0, 0, 0, 0, 0, 0, 1));
}

TEST(WatcherTest, OfSeveralRoundsTheLastVotesAndPartsDoNot) {
  const Outcome o = OutcomeOf({Started(0), Finished(0, "57", 20), Started(kRound2), Started(kPart),
                               Finished(kPart, "57", 10), Finished(kRound2, "5", 30), Ended(100)});

  ASSERT_EQ(o.agents.size(), 1u);
  EXPECT_EQ(o.agents[0].agent, kRound2);
  EXPECT_THAT(EarlyOf(o), ElementsAre(0, 1, 1, 1, 0, 0, 0, 0, 0, 1));
}

TEST(OutcomeTest, ALineReadsAsItWasWritten) {
  Outcome o =
      OutcomeOf({Started(0), Started(1), Finished(0, "57", 30), Finished(1, "5", 31), Ended(60)});
  o.arm = "pool";
  o.problem = "story:7/1/3";
  o.answer = "a \"quoted\"\nanswer \xff";
  o.seconds = 1.25;
  o.tries = 2;
  o.agents[1].answer.reset();

  const auto read = OutcomeFromJson(OutcomeToJson(o));

  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(OutcomeToJson(*read), OutcomeToJson(o));
  EXPECT_EQ(read->total(), o.total());
  EXPECT_EQ(read->early, o.early);
  EXPECT_EQ(read->agents[1].answer, std::nullopt);
  EXPECT_EQ(OutcomeToJson(o).find('\n'), std::string::npos);
}

TEST(OutcomeTest, WhatIsNoOutcomeIsRefused) {
  for (const char* line : {"", "{}", "[]", "{\"arm\": 1, \"problem\": \"p\"}", "{\"arm\": \"a\"}",
                           "{\"arm\": \"a\", \"problem\": \"p\", \"early\": [1]}"}) {
    EXPECT_EQ(OutcomeFromJson(line).status().code(), absl::StatusCode::kInvalidArgument) << line;
  }
}

}  // namespace
}  // namespace conclave::cli
