#include <gtest/gtest.h>

#include "common/status.h"
#include "tests/unit/router/contemplation/led_family.h"

// What a request's on_loss does when its group is lost in mid-thought, and what the receipt says.
namespace conclave::router {
namespace {

using Kind = Decision::Kind;

class OnLossTest : public LedFamily {
 protected:
  // Three agents: one is counted, two are in mid-thought when their group is lost.
  void LoseInMidThought(OnLoss on_loss, int least) {
    request_.on_loss = on_loss;
    request_.stop_rule = StopRule::kNone;
    request_.aggregation = Aggregation::kVote;
    Begin(3, least);
    Place(3);
    AcceptAll();
    Say(Thinker(1), "seven");
    Say(Thinker(2), "eight more");
    Say(Thinker(0), "ok.");
    ASSERT_EQ(CountOf<AgentFinished>(), 1);
    Lose(Unavailable("rank 1 was killed"));
  }

  void ExpectUnavailable() {
    ASSERT_TRUE(failed_.has_value());
    EXPECT_EQ(failed_->code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(CountOf<Decision>(), 0);
    EXPECT_EQ(CountOf<Completed>(), 0);
  }

  // The two were given up where they stood; the third answers.
  void ExpectGivenUp() {
    ASSERT_TRUE(succeeded_);
    const Completed& done = completed();
    EXPECT_EQ(done.answer, "ok.");
    EXPECT_EQ(done.receipt.resumes, 0);
    EXPECT_TRUE(done.receipt.counts_from_stream);
    const std::vector<Decision> expected = {
        {1, Kind::kDrop, 5, {Thinker(1), Thinker(2)}, {{Thinker(1), 5}, {Thinker(2), 10}}}};
    EXPECT_EQ(done.receipt.decisions, expected);
    EXPECT_EQ(done.receipt.agents_cut, 2);
    EXPECT_EQ(CountOf<AgentCut>(), 2);
    EXPECT_EQ(done.receipt.discarded_tokens, 0);

    const std::string hash = done.receipt.result_hash;
    Replay(Receipt(done.receipt));
    ASSERT_FALSE(failed_.has_value()) << *failed_;
    EXPECT_EQ(completed().receipt.result_hash, hash);
    EXPECT_FALSE(completed().receipt.counts_from_stream);
  }
};

TEST_F(OnLossTest, ResumedInTimeItsAgentsGoOnFromTheirLastToken) {
  LoseInMidThought(OnLoss::kResume, 1);
  Pass(limits_.resume_wait - absl::Milliseconds(1));
  Place(2);
  AcceptAll();
  ASSERT_EQ(gangs_.size(), 3u);  // Those that return enter one by one.
  EXPECT_EQ(gangs_[1].agents[0].id, Thinker(1));
  EXPECT_EQ(gangs_[1].agents[0].produced.size(), 5u);
  EXPECT_EQ(gangs_[1].agents[0].grant, gangs_[0].agents[1].grant) << "fed tokens have used it";
  EXPECT_EQ(gangs_[2].agents[0].produced.size(), 10u);
  Say(Thinker(1), " it is.");
  Say(Thinker(2), ".");
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_TRUE(completed().receipt.decisions.empty());
  EXPECT_EQ(completed().receipt.resumes, 1);
  EXPECT_TRUE(completed().receipt.counts_from_stream);
  EXPECT_EQ(completed().receipt.votes.size(), 3u);
  EXPECT_EQ(CountOf<GroupChanged>(), 2);
  EXPECT_EQ(CountOf<AgentStarted>(), 3) << "nobody starts twice";
}

TEST_F(OnLossTest, NotResumedInTimeThoseThatAreLeftAnswerIfTheyAreEnough) {
  LoseInMidThought(OnLoss::kResume, 1);
  Pass(limits_.resume_wait - absl::Milliseconds(1));
  EXPECT_FALSE(is_done());
  Pass(absl::Milliseconds(1));
  ExpectGivenUp();
}

TEST_F(OnLossTest, NotResumedInTimeARequestWithTooFewLeftIsUnavailable) {
  LoseInMidThought(OnLoss::kResume, 2);
  Pass(limits_.resume_wait - absl::Milliseconds(1));
  EXPECT_FALSE(is_done());
  Pass(absl::Milliseconds(1));
  ExpectUnavailable();
}

TEST_F(OnLossTest, WhileNobodyHasRoomOrIsThereItIsTriedAgainUntilTheWaitIsOver) {
  LoseInMidThought(OnLoss::kResume, 1);
  const absl::Time lost = now_;
  int attempts = 0;
  while (!is_done()) {
    ++attempts;
    if (attempts % 2 == 0) {
      Tell(PlacementFailed{.attempt = attempt_, .why = NotFound("no group has the fingerprint")});
    } else {
      Place(2);
      Lose(ResourceExhausted("the group has 256 families"));
    }
    Pass(limits_.retry_wait);
    ASSERT_LT(attempts, 1000);
  }
  EXPECT_EQ(now_ - lost, limits_.resume_wait);
  ExpectGivenUp();
}

TEST_F(OnLossTest, OneThatRunsAgainStaysWhenTheWaitForTheOthersIsOver) {
  LoseInMidThought(OnLoss::kResume, 1);
  Place(1);
  Accept(AddGang(gangs_[1]));
  const absl::Time lost = now_;
  for (size_t i = 2; CountOf<Decision>() == 0 && i < 1000; ++i) {
    ASSERT_EQ(gangs_.size(), i + 1);
    EXPECT_EQ(gangs_[i].agents[0].id, Thinker(2));
    Refuse(gangs_[i], ResourceExhausted("no room now"));
    Pass(limits_.retry_wait);
  }
  EXPECT_EQ(now_ - lost, limits_.resume_wait);
  const std::vector<Decision> expected = {{1, Kind::kDrop, 5, {Thinker(2)}, {{Thinker(2), 10}}}};
  EXPECT_EQ(Decisions(), expected);
  Say(Thinker(1), ".");
  EndFamily();
  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().receipt.resumes, 1);
  EXPECT_EQ(completed().receipt.votes.size(), 2u);
}

TEST_F(OnLossTest, ContinueGivesUpAtOnceWhomTheGroupHad) {
  LoseInMidThought(OnLoss::kContinue, 1);
  EXPECT_TRUE(is_done());
  EXPECT_EQ(attempt_, 1);
  ExpectGivenUp();
}

TEST_F(OnLossTest, ContinueWithTooFewLeftIsUnavailable) {
  LoseInMidThought(OnLoss::kContinue, 2);
  ExpectUnavailable();
  EXPECT_NE(failed_->message().find("rank 1 was killed"), std::string::npos);
}

TEST_F(OnLossTest, FailEndsAtOnceWhateverIsLeft) {
  LoseInMidThought(OnLoss::kFail, 1);
  ExpectUnavailable();
  EXPECT_NE(failed_->message().find("rank 1 was killed"), std::string::npos);
}

TEST_F(OnLossTest, ALossBeforeAnybodyHasEnteredIsTriedAgainWhateverTheRequestSays) {
  for (const OnLoss on_loss : {OnLoss::kResume, OnLoss::kContinue, OnLoss::kFail}) {
    request_.on_loss = on_loss;
    Begin(2, 1);
    Place(2);
    Lose(Unavailable("rank 1 was killed"));
    EXPECT_FALSE(is_done());
    EXPECT_EQ(attempt_, 2);
  }
}

TEST_F(OnLossTest, ThreeLossesWithoutANewTokenEndTheWait) {
  Begin(2, 1);
  for (int i = 0; i < 3; ++i) {
    ASSERT_FALSE(failed_.has_value());
    Place(2);
    Lose(Unavailable("rank 1 was killed"));
    if (i == 1) Pass(limits_.retry_wait);
  }
  ASSERT_TRUE(failed_.has_value());
  EXPECT_EQ(failed_->code(), absl::StatusCode::kUnavailable);
}

TEST_F(OnLossTest, ANewTokenBetweenLossesStartsTheCountAgain) {
  Begin(2, 1);
  for (int i = 0; i < 10; ++i) {
    Place(2);
    AcceptAll();
    ASSERT_FALSE(is_done());
    Say(Thinker(i % 2), "x");
    Lose(Unavailable("rank 1 was killed"));
  }
  EXPECT_FALSE(is_done());
}

// The aggregation pass is lost: before its first word the vote answers, behind it nothing can.
class SynthesisLossTest : public LedFamily {
 protected:
  void LoseInSynthesis(OnLoss on_loss, const std::string& said) {
    request_.on_loss = on_loss;
    request_.stop_rule = StopRule::kNone;
    request_.aggregation = Aggregation::kSynthesise;
    Begin(2, 1);
    Place(2);
    AcceptAll();
    Say(Thinker(0), "ok.");
    Say(Thinker(1), "seven.");
    AcceptAll();
    if (!said.empty()) Say(kSynthesiser, said);
    Lose(Unavailable("rank 1 was killed"));
  }
};

TEST_F(SynthesisLossTest, ItResumesAndTheClientSeesNoGap) {
  LoseInSynthesis(OnLoss::kResume, "both");
  Place(1);
  AcceptAll();
  Say(kSynthesiser, " are.");
  EndFamily();
  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "both are.");
  EXPECT_FALSE(completed().incomplete);
  EXPECT_EQ(completed().receipt.resumes, 1);
  EXPECT_TRUE(completed().receipt.decisions.empty());
}

TEST_F(SynthesisLossTest, BeforeItsFirstWordTheVoteAnswersAtOnceWithContinue) {
  LoseInSynthesis(OnLoss::kContinue, "");
  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "ok.");
  EXPECT_TRUE(completed().incomplete);
  EXPECT_EQ(completed().method, Aggregation::kVote);
  const std::vector<Decision> expected = {{1, Kind::kDrop, 6, {kSynthesiser}, {{kSynthesiser, 0}}}};
  EXPECT_EQ(completed().receipt.decisions, expected);
}

TEST_F(SynthesisLossTest, BehindItsFirstWordAnUnresumableLossIsUnavailable) {
  LoseInSynthesis(OnLoss::kContinue, "both");
  ASSERT_TRUE(failed_.has_value());
  EXPECT_EQ(failed_->code(), absl::StatusCode::kUnavailable);
}

TEST_F(SynthesisLossTest, WithResumeTheVoteAnswersOnceTheWaitIsOver) {
  LoseInSynthesis(OnLoss::kResume, "");
  EXPECT_FALSE(is_done());
  Pass(limits_.resume_wait);
  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "ok.");
  EXPECT_EQ(completed().receipt.decisions[0].kind, Kind::kDrop);
}

TEST_F(SynthesisLossTest, FailEndsAtOnce) {
  LoseInSynthesis(OnLoss::kFail, "");
  ASSERT_TRUE(failed_.has_value());
  EXPECT_EQ(failed_->code(), absl::StatusCode::kUnavailable);
}

// A replay takes no decision: its agents resume, whatever the first run did.
TEST_F(OnLossTest, AReplayOfAContinuedRequestResumes) {
  LoseInMidThought(OnLoss::kContinue, 1);
  ASSERT_TRUE(succeeded_);
  const Receipt receipt = completed().receipt;
  BeginReplay(receipt);
  Place(3);
  Accept(AddGang(gangs_[0]));
  Lose(Unavailable("rank 0 was killed"));
  EXPECT_FALSE(is_done());
  EXPECT_EQ(attempt_, 2);
}

}  // namespace
}  // namespace conclave::router
