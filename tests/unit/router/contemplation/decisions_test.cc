#include <gtest/gtest.h>

#include "common/status.h"
#include "tests/unit/router/contemplation/led_family.h"

// What each decision does, by the rules of token time, and that its receipt leads to the same
// again.
namespace conclave::router {
namespace {

using Kind = Decision::Kind;

class DecisionsTest : public LedFamily {
 protected:
  DecisionsTest() {
    limits_.straggler_patience = absl::Seconds(5);
    request_.stop_rule = StopRule::kNone;
    request_.aggregation = Aggregation::kVote;
  }

  // The receipt of this run leads to the same bytes.
  void ExpectReplays() {
    const Completed first = completed();
    Replay(first.receipt);
    ASSERT_FALSE(failed_.has_value()) << *failed_;
    ASSERT_TRUE(succeeded_);
    EXPECT_EQ(completed().answer, first.answer);
    EXPECT_EQ(completed().incomplete, first.incomplete);
    EXPECT_EQ(completed().method, first.method);
    EXPECT_EQ(completed().receipt.result_hash, first.receipt.result_hash);
    EXPECT_EQ(completed().receipt.decisions, first.receipt.decisions);
    EXPECT_EQ(completed().receipt.critical_path_tokens, first.receipt.critical_path_tokens);
  }

  // A round of two that do not agree, so that the model merges their answers.
  void ComeToSynthesis() {
    request_.aggregation = Aggregation::kSynthesise;
    Begin(2, 1);
    Place(2);
    AcceptAll();
    Say(Thinker(0), "seven.");
    Say(Thinker(1), "eight.");
    ASSERT_EQ(CountOf<AggregationStarted>(), 1);
  }
};

TEST_F(DecisionsTest, StoppedBeforeAGroupIsFoundTheAnswerIsEmptyAndTheReceiptSaysSo) {
  Begin(3, 2);
  Tell(StopRequested{});

  EXPECT_TRUE(closed_);
  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "");
  EXPECT_TRUE(completed().incomplete);
  EXPECT_EQ(completed().method, Aggregation::kVote);
  EXPECT_EQ(completed().receipt.fingerprint, "f");
  const std::vector<Decision> expected = {
      {1, Kind::kStopNow, 0, {Thinker(0), Thinker(1), Thinker(2)}, {}}};
  EXPECT_EQ(completed().receipt.decisions, expected);
  EXPECT_TRUE(completed().receipt.agents.empty());
  ExpectReplays();
  EXPECT_EQ(attempt_, 0) << "no group is needed to do nothing";
}

TEST_F(DecisionsTest, StoppedWhileTheFirstGangIsOnItsWayItNeverWasButItsPromptIsOnTheBill) {
  Begin(3, 2);
  Place(2);
  ASSERT_EQ(gangs_.size(), 1u);
  Tell(StopRequested{});
  ASSERT_EQ(cancels_.size(), 1u);
  EXPECT_TRUE(finished_);
  AcceptAll();
  End(Thinker(0), Finish::kCancelled);
  End(Thinker(1), Finish::kCancelled);
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "");
  EXPECT_EQ(CountOf<AgentStarted>(), 0);
  ASSERT_EQ(completed().receipt.decisions.size(), 1u);
  EXPECT_EQ(completed().receipt.decisions[0].agents.size(), 3u);
  EXPECT_EQ(completed().receipt.prompt.total, 10);
  EXPECT_FALSE(completed().receipt.counts_from_stream);
  ExpectReplays();
}

TEST_F(DecisionsTest, AStopFindsWhatAnAgentThatAnswersAloneHasSaid) {
  request_.mode = Mode::kInstant;
  Begin();
  Place(1);
  AcceptAll();
  Say(Thinker(0), "sev");
  Tell(StopRequested{});
  EXPECT_TRUE(finished_);
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "sev");
  EXPECT_TRUE(completed().incomplete);
  EXPECT_EQ(completed().method, std::nullopt);
  const std::vector<Decision> expected = {{1, Kind::kStopNow, 3, {}, {{Thinker(0), 3}}}};
  EXPECT_EQ(completed().receipt.decisions, expected);
  ExpectReplays();
}

class StoppedAloneTest : public DecisionsTest, public testing::WithParamInterface<bool> {};

TEST_P(StoppedAloneTest, BeforeAnyWordTheAnswerIsEmptyAndThereIsAReceipt) {
  request_.mode = Mode::kInstant;
  Begin();
  Place(1);
  if (GetParam()) AcceptAll();
  Tell(StopRequested{});
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "");
  EXPECT_TRUE(completed().incomplete);
  EXPECT_EQ(completed().method, std::nullopt);
  EXPECT_EQ(completed().receipt.decisions.size(), 1u);
  ExpectReplays();
}

INSTANTIATE_TEST_SUITE_P(Entered, StoppedAloneTest, testing::Bool());

TEST_F(DecisionsTest, ADeadlineWithoutAnyAnswerStaysDeadlineExceeded) {
  request_.deadline = absl::Seconds(1);
  Begin(2, 1);
  Place(2);
  AcceptAll();
  Pass(absl::Seconds(1));
  EndFamily();
  ASSERT_TRUE(failed_.has_value());
  EXPECT_EQ(failed_->code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(DecisionsTest, AtADeadlineEveryEndVotesAndTheOthersAreCutWithoutAVote) {
  request_.deadline = absl::Seconds(1);
  Begin(4, 1);
  Place(3);
  AcceptAll();
  Say(Thinker(0), "a");
  Say(Thinker(2), "seven.");  // Waits for the others,
  Say(Thinker(1), "eight");
  Pass(absl::Seconds(1));
  EXPECT_TRUE(finished_);
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "seven.");  // and votes all the same.
  EXPECT_TRUE(completed().incomplete);
  const std::vector<Decision> expected = {
      {1, Kind::kDeadline, 1, {Thinker(3)}, {{Thinker(0), 1}, {Thinker(1), 5}}}};
  EXPECT_EQ(completed().receipt.decisions, expected);
  EXPECT_EQ(completed().receipt.votes.size(), 1u);
  ExpectReplays();
}

TEST_F(DecisionsTest, WhereNoEndWasCountedTheCutOnesVoteInOrderOfTheirClocks) {
  Begin(3, 1);
  Place(3);
  AcceptAll();
  Say(Thinker(0), "eight");
  Say(Thinker(1), "six");
  Say(Thinker(2), "seven");
  Tell(StopRequested{});
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "six");
  EXPECT_EQ(completed().receipt.votes.size(), 3u);
  EXPECT_TRUE(completed().incomplete);
  ExpectReplays();
}

TEST_F(DecisionsTest, AgentsJoinAtTheFamilysClockAndAreCountedBehindTheirStart) {
  Begin(3, 1);
  Place(2);
  AcceptAll();
  Say(Thinker(0), "abc");
  Say(Thinker(1), "abcde");
  Tell(CreditsChanged{.attempt = attempt_, .credits = 1});
  ASSERT_EQ(gangs_.size(), 2u);
  Say(Thinker(0), "d.");  // Clock 5; the gang on its way runs at 3.
  EXPECT_EQ(CountOf<AgentFinished>(), 0);
  AcceptAll();
  Say(Thinker(2), "x.");
  EXPECT_EQ(CountOf<AgentFinished>(), 2);  // Also at 5, where the third one stands,
  Say(Thinker(1), ".");                    // which ends at 6.
  EXPECT_EQ(CountOf<AgentFinished>(), 3);
  EndFamily();

  ASSERT_TRUE(succeeded_);
  const std::vector<Decision> expected = {{1, Kind::kJoin, 3, {Thinker(2)}, {}}};
  EXPECT_EQ(completed().receipt.decisions, expected);
  EXPECT_EQ(completed().receipt.critical_path_tokens, 6);
  ExpectReplays();
}

TEST_F(DecisionsTest, AgentsForWhomThereIsNeverRoomAreNarrowedAndTheVoteIsSettledWithoutThem) {
  request_.stop_rule = StopRule::kSettled;
  Begin(4, 1);
  Place(2);
  AcceptAll();
  Say(Thinker(0), "ok.");
  Say(Thinker(1), "ok.");
  EXPECT_FALSE(finished_) << "two votes are still to come";
  for (size_t i = 1; !finished_ && i < 1000; ++i) {
    Pass(limits_.retry_wait);
    ASSERT_EQ(gangs_.size(), i + 1);
    Refuse(gangs_[i], ResourceExhausted("no room now"));
  }
  EXPECT_TRUE(finished_);
  EndFamily();

  ASSERT_TRUE(succeeded_);
  // The one that asked in vain at this very moment was still on its way.
  const std::vector<Decision> expected = {{1, Kind::kNarrow, 3, {Thinker(3)}, {}},
                                          {2, Kind::kNarrow, 3, {Thinker(2)}, {}}};
  EXPECT_EQ(completed().receipt.decisions, expected);
  EXPECT_EQ(completed().answer, "ok.");
  EXPECT_GE(now_ - absl::FromUnixSeconds(1000), limits_.narrow_wait);
  EXPECT_LE(now_ - absl::FromUnixSeconds(1000), limits_.narrow_wait + absl::Seconds(1));
  ExpectReplays();
}

// Two of four agree; a third thinks on, ahead of them. Without the fourth, its vote can change
// nothing any more.
TEST_F(DecisionsTest, ANarrowLeavesFewerVotesToComeAndCanSettleTheRound) {
  request_.stop_rule = StopRule::kSettled;
  Begin(4, 1);
  Place(3);
  AcceptAll();
  Say(Thinker(2), "a longer thought");
  Say(Thinker(0), "ok.");
  Say(Thinker(1), "ok.");
  EXPECT_FALSE(finished_);
  Tell(CreditsChanged{.attempt = attempt_, .credits = 1});
  ASSERT_EQ(gangs_.size(), 2u);
  Refuse(gangs_[1], OutOfRange("it would never fit"));
  EXPECT_TRUE(finished_);
  EndFamily();

  ASSERT_TRUE(succeeded_);
  // F stood at 16 when it was taken: so far the third keeps what it has.
  const std::vector<Decision> expected = {{1, Kind::kNarrow, 16, {Thinker(3)}, {}}};
  EXPECT_EQ(completed().receipt.decisions, expected);
  EXPECT_EQ(completed().receipt.agents[2].kept, 16);
  EXPECT_TRUE(completed().receipt.agents[2].cut);
  ExpectReplays();
}

TEST_F(DecisionsTest, ADropLeavesFewerVotesToComeAndCanSettleTheRound) {
  request_.stop_rule = StopRule::kSettled;
  Begin(4, 1);
  Place(4);
  AcceptAll();
  Say(Thinker(2), "a longer thought");
  Say(Thinker(3), "or");
  Say(Thinker(0), "ok.");
  Say(Thinker(1), "ok.");
  Pass(absl::Seconds(5));
  EXPECT_TRUE(finished_);
  EndFamily();

  ASSERT_TRUE(succeeded_);
  const std::vector<Decision> expected = {{1, Kind::kDrop, 2, {Thinker(3)}, {{Thinker(3), 2}}}};
  EXPECT_EQ(completed().receipt.decisions, expected);
  // The two are counted at 3, behind the decision; there the third is cut.
  EXPECT_EQ(completed().receipt.agents[2].kept, 3);
  EXPECT_EQ(completed().receipt.agents[2].discarded, 13);
  ExpectReplays();
}

TEST_F(DecisionsTest, ASlowAgentHoldsAnEndBackNoLongerThanThePatienceThoughItGoesOn) {
  Begin(3, 1);
  Place(3);
  AcceptAll();
  Say(Thinker(0), "seven.");
  Say(Thinker(1), "eight is it.");
  Pass(absl::Milliseconds(4500));
  Say(Thinker(2), "s");  // It moves, and is behind.
  EXPECT_EQ(CountOf<Decision>(), 0);
  Pass(absl::Milliseconds(499));
  EXPECT_EQ(CountOf<Decision>(), 0);
  Pass(absl::Milliseconds(1));
  ASSERT_EQ(CountOf<Decision>(), 1);
  EndFamily();

  ASSERT_TRUE(succeeded_);
  const std::vector<Decision> expected = {{1, Kind::kDrop, 1, {Thinker(2)}, {{Thinker(2), 1}}}};
  EXPECT_EQ(completed().receipt.decisions, expected);
  EXPECT_EQ(completed().receipt.votes.size(), 2u);
  ExpectReplays();
}

TEST_F(DecisionsTest, TheRequestsOwnPatienceIsShorter) {
  request_.patience = absl::Milliseconds(200);
  Begin(2, 1);
  Place(2);
  AcceptAll();
  Say(Thinker(0), "seven.");
  Pass(absl::Milliseconds(199));
  EXPECT_EQ(CountOf<Decision>(), 0);
  Pass(absl::Milliseconds(1));
  EXPECT_EQ(CountOf<Decision>(), 1);
}

TEST_F(DecisionsTest, OneThatIsAheadHoldsNobodyBackHoweverLongItThinks) {
  Begin(2, 1);
  Place(2);
  AcceptAll();
  Say(Thinker(1), "a longer thought");
  Say(Thinker(0), "seven.");
  EXPECT_EQ(CountOf<AgentFinished>(), 1);
  Pass(absl::Minutes(5));
  EXPECT_EQ(CountOf<Decision>(), 0);
}

TEST_F(DecisionsTest, BelowTheMinimumNobodyIsGivenUpForBeingSlow) {
  request_.deadline = absl::Seconds(60);
  Begin(2, 2);
  Place(2);
  AcceptAll();
  Say(Thinker(0), "seven.");
  Pass(absl::Seconds(59));
  EXPECT_EQ(CountOf<Decision>(), 0);
  Pass(absl::Seconds(1));
  EndFamily();
  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().receipt.decisions[0].kind, Kind::kDeadline);
}

TEST_F(DecisionsTest, ALateGangThatIsNeverAnsweredIsNarrowedAfterThePatience) {
  Begin(3, 1);
  Place(2);
  AcceptAll();
  Tell(CreditsChanged{.attempt = attempt_, .credits = 1});
  ASSERT_EQ(gangs_.size(), 2u);
  Say(Thinker(0), "seven.");
  Say(Thinker(1), "eight.");
  Pass(absl::Seconds(5));
  ASSERT_EQ(CountOf<Decision>(), 1);
  EXPECT_TRUE(finished_);
  AcceptAll();  // It comes after all: nobody wants it any more.
  End(Thinker(2), Finish::kCancelled);
  EndFamily();
  ASSERT_TRUE(succeeded_);
  const std::vector<Decision> expected = {{1, Kind::kNarrow, 0, {Thinker(2)}, {}}};
  EXPECT_EQ(completed().receipt.decisions, expected);
  ExpectReplays();
}

TEST_F(DecisionsTest, AtTheLimitOfItsLeadAFastAgentWaitsNoLongerThanThePatienceEither) {
  limits_.max_lead = 4;
  Begin(2, 1);
  Place(2);
  AcceptAll();
  EXPECT_EQ(gangs_[0].agents[0].run_to, 4);
  Say(Thinker(0), "abcd");
  Pass(absl::Seconds(5));
  ASSERT_EQ(CountOf<Decision>(), 1);
  EXPECT_EQ(Decisions()[0].kind, Kind::kDrop);
  EXPECT_EQ(Decisions()[0].agents, std::vector{Thinker(1)});
}

TEST_F(DecisionsTest, ASynthesiserForWhomThereIsNoRoomIsGivenUpAfterThePatience) {
  ComeToSynthesis();
  for (size_t i = 1; !finished_ && i < 1000; ++i) {
    ASSERT_EQ(gangs_.size(), i + 1);
    Refuse(gangs_[i], ResourceExhausted("no room now"));
    Pass(limits_.retry_wait);
  }
  EXPECT_EQ(now_ - absl::FromUnixSeconds(1000), absl::Seconds(5));
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "seven.");
  EXPECT_EQ(completed().method, Aggregation::kVote);
  EXPECT_TRUE(completed().incomplete);
  const std::vector<Decision> expected = {{1, Kind::kDrop, 6, {kSynthesiser}, {{kSynthesiser, 0}}}};
  EXPECT_EQ(completed().receipt.decisions, expected);
  ExpectReplays();
}

TEST_F(DecisionsTest, ASynthesiserThatFallsSilentIsGivenUpBeforeItsFirstWordAndNotAfter) {
  model_.profile.thinks = true;
  ComeToSynthesis();
  AcceptAll();
  Pass(absl::Milliseconds(4999));
  EXPECT_EQ(CountOf<Decision>(), 0);
  Say(kSynthesiser, "it");  // The first word.
  Pass(absl::Minutes(5));
  EXPECT_EQ(CountOf<Decision>(), 0);
  Tell(StopRequested{});
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "it");
  EXPECT_EQ(completed().method, Aggregation::kSynthesise);
  EXPECT_TRUE(completed().incomplete);
  ExpectReplays();
}

TEST_F(DecisionsTest, AStopBeforeTheSynthesisHasSaidAWordFallsBackToTheVote) {
  ComeToSynthesis();
  AcceptAll();
  Tell(StopRequested{});
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "seven.");
  EXPECT_EQ(completed().method, Aggregation::kVote);
  EXPECT_TRUE(completed().incomplete);
  const std::vector<Decision> expected = {{1, Kind::kStopNow, 6, {}, {{kSynthesiser, 0}}}};
  EXPECT_EQ(completed().receipt.decisions, expected);
  ExpectReplays();
}

TEST_F(DecisionsTest, AReplayIsNotStopped) {
  Begin(2, 1);
  Place(2);
  AcceptAll();
  Say(Thinker(0), "seven.");
  Say(Thinker(1), "seven.");
  EndFamily();
  BeginReplay(Receipt(completed().receipt));
  Tell(StopRequested{});
  EXPECT_FALSE(is_done());
  EXPECT_EQ(CountOf<Decision>(), 0);
}

TEST_F(DecisionsTest, AForgedReplayThatGivesUpEverybodyIsAborted) {
  Receipt receipt;
  receipt.fingerprint = "f";
  receipt.decision_version = kDecisionVersion;
  receipt.decisions = {
      {1, Kind::kDrop, 0, {Thinker(0), Thinker(1)}, {{Thinker(0), 0}, {Thinker(1), 0}}}};
  request_.max_agents = 2;
  BeginReplay(receipt);
  Place(2);
  ASSERT_TRUE(failed_.has_value());
  EXPECT_EQ(failed_->code(), absl::StatusCode::kAborted);
}

}  // namespace
}  // namespace conclave::router
