#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/status.h"
#include "tests/unit/router/contemplation/led_family.h"

// A pass of another model than the agents'.
namespace conclave::router {
namespace {

class AggregatorTest : public LedFamily {
 protected:
  AggregatorTest() {
    limits_.straggler_patience = absl::Seconds(5);
    limits_.receipt_wait = absl::Seconds(2);
    request_.stop_rule = StopRule::kNone;
    request_.aggregation = Aggregation::kSynthesise;
    aggregator_ = model_;
    aggregator_->name = "big";
    aggregator_->fingerprint = "x";
    aggregator_->profile.aggregate_text = "Merge {candidates} for {question}";
    aggregator_->profile.candidate_line = "<{answer}>";
  }

  // Two agents have ended, each with an answer of its own.
  void EndRound(const std::string& first = "aaa.", const std::string& second = "bb.") {
    Begin(2, 1);
    Place(2);
    AcceptAll();
    Say(Thinker(0), first);
    Say(Thinker(1), second);
  }

  // The pass is on its way.
  void ComeToPass() {
    EndRound();
    EndFamily();
    Place(1, "x");
    AcceptAll();
  }

  // Of a run whose last attempt is half-closed.
  void ExpectReplays() {
    EndFamily();
    ASSERT_TRUE(succeeded_);
    const Completed first = completed();
    Replay(first.receipt);
    ASSERT_FALSE(failed_) << *failed_;
    EXPECT_EQ(completed().answer, first.answer);
    EXPECT_EQ(completed().receipt.result_hash, first.receipt.result_hash);
    EXPECT_EQ(completed().receipt.aggregator_fingerprint, first.receipt.aggregator_fingerprint);
  }
};

TEST_F(AggregatorTest, ThePassRunsOnAGroupOfItsModelInItsWords) {
  EndRound();
  EXPECT_TRUE(finished_) << "nobody follows on the agents' group";
  EXPECT_EQ(opened_.size(), 1u) << "one attempt at a time";
  EndFamily();

  ASSERT_EQ(opened_.size(), 2u);
  EXPECT_EQ(opened_[0].places[0].model, "m");
  EXPECT_EQ(opened_[1].places[0].model, "big");
  EXPECT_EQ(opened_[1].places[0].fingerprint, "x");
  EXPECT_EQ(opened_[1].opening.seed, opened_[0].opening.seed);
  EXPECT_EQ(opened_[1].places[0].agents, 1);
  Place(1, "x");
  ASSERT_EQ(gangs_.size(), 2u);
  EXPECT_EQ(TextOf(gangs_[1].agents[0].messages.back()), "Merge <bb.>\n<aaa.> for What?");
  AcceptAll();
  Say(kSynthesiser, "zzzz.");
  EXPECT_TRUE(finished_);
  ExpectReplays();
}

TEST_F(AggregatorTest, TheReceiptNamesBothModels) {
  ComeToPass();
  Say(kSynthesiser, "zzzz.");
  EndFamily();

  ASSERT_TRUE(succeeded_);
  const Receipt& receipt = completed().receipt;
  EXPECT_EQ(completed().answer, "zzzz.");
  EXPECT_EQ(completed().method, Aggregation::kSynthesise);
  EXPECT_EQ(receipt.model, "m");
  EXPECT_EQ(receipt.fingerprint, "f");
  EXPECT_EQ(receipt.aggregator_model, "big");
  EXPECT_EQ(receipt.aggregator_fingerprint, "x");
  EXPECT_EQ(receipt.aggregation_tokens, 5);
  EXPECT_EQ(receipt.critical_path_tokens, 4 + 5);
  EXPECT_EQ(receipt.prompt.total, 15);
  EXPECT_EQ(receipt.prompt.computed, 10) << "each group computed one prompt";
  EXPECT_FALSE(receipt.counts_from_stream);
  const auto* admitted = std::get_if<Admitted>(&events_.front().what);
  ASSERT_NE(admitted, nullptr);
  EXPECT_EQ(admitted->fingerprint, "f");
  EXPECT_EQ(admitted->aggregator_fingerprint, "x");
  EXPECT_EQ(CountOf<GroupChanged>(), 0) << "nothing was lost";
  for (const ClientEvent& event : events_) {
    if (const auto* started = std::get_if<AggregationStarted>(&event.what)) {
      EXPECT_EQ(started->model, "big");
    }
  }
}

TEST_F(AggregatorTest, WhereTheVoteAnswersNobodyMoves) {
  request_.aggregation = Aggregation::kAuto;
  EndRound("aa.", "aa.");
  ExpectReplays();
  EXPECT_EQ(opened_.size(), 1u);
  EXPECT_EQ(completed().method, Aggregation::kVote);
  EXPECT_EQ(completed().receipt.aggregator_fingerprint, "x") << "it might have been asked";
}

TEST_F(AggregatorTest, WhereNoGroupOfItIsThereTheVoteAnswersWhenThePatienceIsOver) {
  EndRound();
  EndFamily();
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(placing_) << "it is looked for again";
    placing_ = false;
    Tell(PlacementFailed{.attempt = attempt_, .why = Unavailable("nobody serves it")});
    Pass(absl::Seconds(1));
  }
  EXPECT_FALSE(is_done());
  Pass(absl::Seconds(1));

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "bb.");
  EXPECT_EQ(completed().method, Aggregation::kVote);
  EXPECT_TRUE(completed().incomplete);
  ASSERT_EQ(Decisions().size(), 1u);
  EXPECT_EQ(Decisions()[0].kind, Decision::Kind::kDrop);
  const Completed first = completed();
  Replay(first.receipt);
  ASSERT_FALSE(failed_) << *failed_;
  EXPECT_EQ(completed().receipt.result_hash, first.receipt.result_hash);
  EXPECT_EQ(opened_.size(), 1u) << "the replay knows that none was found";
}

TEST_F(AggregatorTest, APassThatFindsNoRoomIsGivenUpAsWell) {
  EndRound();
  EndFamily();
  Pass(absl::Seconds(2));
  Place(0, "x");
  Refuse(gangs_.back(), ResourceExhausted("no room"));
  Pass(absl::Seconds(3));
  EXPECT_TRUE(finished_);
  ExpectReplays();
  EXPECT_EQ(completed().method, Aggregation::kVote);
}

TEST_F(AggregatorTest, TotalsThatDoNotComeHoldNobodyBack) {
  EndRound();
  Pass(absl::Seconds(2));

  EXPECT_TRUE(closed_);
  ASSERT_EQ(opened_.size(), 2u);
  Place(1, "x");
  AcceptAll();
  Say(kSynthesiser, "z.");
  EndFamily();
  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "z.");
  EXPECT_TRUE(completed().receipt.counts_from_stream);
}

TEST_F(AggregatorTest, ALossOfWhatIsNoLongerWantedIsNone) {
  request_.on_loss = OnLoss::kFail;
  EndRound();
  Lose(Unavailable("killed"));

  ASSERT_EQ(opened_.size(), 2u);
  EXPECT_EQ(CountOf<GroupChanged>(), 0);
  Place(1, "x");
  AcceptAll();
  Say(kSynthesiser, "z.");
  EndFamily();
  ASSERT_TRUE(succeeded_);
}

TEST_F(AggregatorTest, ALostPassGoesOnWhereItsFingerprintIs) {
  ComeToPass();
  Say(kSynthesiser, "zz");
  Lose(Unavailable("killed"));
  ASSERT_EQ(opened_.size(), 3u);
  EXPECT_EQ(opened_[2].places[0].model, "big");
  EXPECT_EQ(opened_[2].places[0].fingerprint, "x");
  Place(1, "f");
  EXPECT_TRUE(closed_) << "the agents' own fingerprint will not do";
  Pass(absl::Seconds(1));
  ASSERT_EQ(opened_.size(), 4u);
  Place(1, "x");
  EXPECT_EQ(gangs_.back().agents[0].produced.size(), 2u);
  AcceptAll();
  Say(kSynthesiser, "z.");
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "zzz.");
  EXPECT_EQ(completed().receipt.resumes, 1);
}

TEST_F(AggregatorTest, AStopOnTheWayIsAnsweredByTheVote) {
  EndRound();
  Tell(StopRequested{});
  EXPECT_FALSE(is_done()) << "the agents' group has not told what it cost";
  ExpectReplays();
  EXPECT_EQ(completed().answer, "bb.");
  EXPECT_FALSE(completed().receipt.counts_from_stream);
  EXPECT_EQ(opened_.size(), 1u);
}

TEST_F(AggregatorTest, AStopWhileItIsLookedForIsAnsweredAtOnce) {
  EndRound();
  EndFamily();
  Tell(StopRequested{});
  ASSERT_TRUE(succeeded_);
  EXPECT_TRUE(closed_);
  EXPECT_EQ(completed().answer, "bb.");
}

TEST_F(AggregatorTest, ARoundThatWasLostBeforeItsEndMovesFromNowhere) {
  request_.on_loss = OnLoss::kContinue;
  Begin(2, 1);
  Place(2);
  AcceptAll();
  Say(Thinker(0), "aaa.");
  Lose(Unavailable("killed"));

  ASSERT_EQ(opened_.size(), 2u);
  EXPECT_EQ(opened_[1].places[0].model, "big");
  EXPECT_EQ(opened_[1].places[0].fingerprint, "x");
}

TEST_F(AggregatorTest, ItsAnswerIsReadByItsOwnKey) {
  aggregator_->profile.answer_key = {.kind = AnswerKeySpec::Kind::kBoxed, .argument = {}};
  request_.checker = CheckerSpec{CheckerSpec::Kind::kRegex, "7", {}};
  ComeToPass();
  Say(kSynthesiser, "It is \\boxed{7}.");
  EndFamily();
  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().accepted, true);
}

TEST_F(AggregatorTest, ItPicksInItsOwnWords) {
  request_.aggregation = Aggregation::kSelect;
  aggregator_->profile.select_text = "Which? {candidates}";
  ComeToPass();
  EXPECT_EQ(TextOf(gangs_.back().agents[0].messages.back()), "Which? <bb.>\n<aaa.>");
  Say(kSynthesiser, "2.");
  ExpectReplays();
  EXPECT_EQ(completed().answer, "aaa.");
}

TEST_F(AggregatorTest, ItJoinsWhatTheAgentsModelSplit) {
  request_.strategy = Strategy::kDecompose;
  model_.profile.split_text = "Split {question}";
  aggregator_->profile.join_text = "Join {candidates}";
  aggregator_->profile.join_line = "{part}={answer}";
  const AgentId splitter = MakeAgentId(kSplitStage, 0, 0);
  Begin(2, 1);
  Place(2);
  AcceptAll();
  Say(splitter, "one\ntwo.");
  AcceptAll();
  Say(MakeAgentId(kPartStage, 0, 0), "a.");
  Say(MakeAgentId(kPartStage, 1, 0), "b.");
  ASSERT_TRUE(finished_);
  EndFamily();
  ASSERT_EQ(opened_.back().places[0].model, "big");
  Place(1, "x");
  EXPECT_EQ(TextOf(gangs_.back().agents[0].messages.back()), "Join one=a.\ntwo.=b.");
  AcceptAll();
  Say(kSynthesiser, "ab.");
  ExpectReplays();
  EXPECT_EQ(completed().answer, "ab.");
}

}  // namespace
}  // namespace conclave::router
