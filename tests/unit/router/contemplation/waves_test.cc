#include <gtest/gtest.h>

#include "common/status.h"
#include "tests/unit/router/contemplation/led_family.h"

// Agents that enter at a token time because those before them are counted.
namespace conclave::router {
namespace {

using Kind = Decision::Kind;

class WavesTest : public LedFamily {
 protected:
  WavesTest() {
    limits_.straggler_patience = absl::Seconds(5);
    request_.stop_rule = StopRule::kNone;
    request_.aggregation = Aggregation::kVote;
  }

  // `agents` in waves of `wave`, on a group that has room for all.
  void BeginWaves(int agents, int wave, int least = 1) {
    request_.wave = wave;
    Begin(agents, least);
    Place(64);
  }

  static std::vector<AgentId> Of(const AddGang& gang) {
    std::vector<AgentId> ids;
    for (const AgentRecipe& agent : gang.agents) ids.push_back(agent.id);
    return ids;
  }

  void ExpectReplays() {
    const Completed first = completed();
    Replay(first.receipt);
    ASSERT_FALSE(failed_.has_value()) << *failed_;
    ASSERT_TRUE(succeeded_);
    EXPECT_EQ(completed().answer, first.answer);
    EXPECT_EQ(completed().incomplete, first.incomplete);
    EXPECT_EQ(completed().receipt.result_hash, first.receipt.result_hash);
    EXPECT_EQ(completed().receipt.decisions, first.receipt.decisions);
    EXPECT_EQ(completed().receipt.critical_path_tokens, first.receipt.critical_path_tokens);
  }
};

TEST_F(WavesTest, WavesHoldAllAgentsAndTheLastOneWhoIsLeft) {
  const auto waves = [this](int agents, std::optional<int> wave, int least = 1) {
    request_.max_agents = agents;
    request_.min_agents = least;
    request_.wave = wave;
    const auto plan = MakePlan(request_, model_, limits_);
    return plan.ok() ? plan->waves : std::vector<int>{};
  };
  EXPECT_EQ(waves(8, std::nullopt), std::vector{8});
  EXPECT_EQ(waves(8, 8), std::vector{8});
  EXPECT_EQ(waves(8, 3), (std::vector{3, 3, 2}));
  EXPECT_EQ(waves(3, 1), (std::vector{1, 1, 1}));
  EXPECT_EQ(waves(8, 2, 5), (std::vector{5, 2, 1}));
  EXPECT_EQ(waves(8, 9), std::vector<int>{}) << "more than there are";
  EXPECT_EQ(waves(8, 0), std::vector<int>{});
  request_.total_tokens = 3 * 64;  // A token budget makes fewer of them.
  EXPECT_EQ(waves(8, 2), (std::vector{2, 1}));
}

TEST_F(WavesTest, TheNextWaveEntersWhereTheLastOneIsCountedWithoutADecision) {
  BeginWaves(5, 2);
  ASSERT_EQ(gangs_.size(), 1u);
  EXPECT_EQ(Of(gangs_[0]), (std::vector{Thinker(0), Thinker(1)}));
  AcceptAll();
  Say(Thinker(0), "seven.");
  EXPECT_EQ(gangs_.size(), 1u) << "one of the first wave still thinks";
  Say(Thinker(1), "eight is it.");
  ASSERT_EQ(gangs_.size(), 2u);
  EXPECT_EQ(Of(gangs_[1]), (std::vector{Thinker(2), Thinker(3)}));
  AcceptAll();
  Say(Thinker(2), "seven.");
  Say(Thinker(3), "six.");  // Counted first, at clock 12 + 4.
  ASSERT_EQ(gangs_.size(), 3u);
  EXPECT_EQ(Of(gangs_[2]), std::vector{Thinker(4)});
  AcceptAll();
  Say(Thinker(4), "x.");
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "seven.");
  EXPECT_TRUE(completed().receipt.decisions.empty());
  EXPECT_EQ(completed().receipt.critical_path_tokens, 12 + 6 + 2);
  EXPECT_EQ(completed().receipt.agents.size(), 5u);
  ExpectReplays();
  EXPECT_EQ(gangs_.size(), 3u) << "a replay opens its waves by itself";
}

TEST_F(WavesTest, AStopRuleThatIsMetInAWaveLeavesTheOthersUnasked) {
  request_.stop_rule = StopRule::kQuorum;
  request_.stop_votes = 2;
  BeginWaves(9, 3);
  AcceptAll();
  Say(Thinker(0), "ok.");
  Say(Thinker(1), "ok.");
  Say(Thinker(2), "a longer thought");
  EXPECT_TRUE(finished_);
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(gangs_.size(), 1u);
  EXPECT_TRUE(completed().receipt.decisions.empty()) << "nobody was kept out: it is the rule";
  EXPECT_EQ(completed().receipt.agents.size(), 3u);
  EXPECT_EQ(completed().receipt.agents[2].kept, 3);
  ExpectReplays();
}

TEST_F(WavesTest, TheVotesToComeAreThoseOfEveryWave) {
  request_.stop_rule = StopRule::kSettled;
  request_.include.votes = true;
  BeginWaves(5, 2);
  AcceptAll();
  Say(Thinker(0), "ok.");
  Say(Thinker(1), "ok.");
  ASSERT_EQ(gangs_.size(), 2u) << "three could still overturn two";
  AcceptAll();
  Say(Thinker(3), "thinks");
  Say(Thinker(2), "ok.");
  EXPECT_TRUE(finished_) << "two can't overturn three";
  EndFamily();
  ASSERT_TRUE(succeeded_);
  std::vector<int> to_come;
  for (const ClientEvent& event : events_) {
    if (const auto* votes = std::get_if<VoteUpdate>(&event.what)) to_come.push_back(votes->to_come);
  }
  EXPECT_EQ(to_come, (std::vector{4, 3, 2}));
}

TEST_F(WavesTest, TheFirstWaveHoldsAtLeastTheMinimum) {
  BeginWaves(6, 2, /*least=*/3);
  AcceptAll();
  ASSERT_EQ(gangs_[0].agents.size(), 3u);
  for (int i = 0; i < 3; ++i) Say(Thinker(i), "ok.");
  EXPECT_EQ(gangs_[1].agents.size(), 2u);
}

TEST_F(WavesTest, OfAWaveThatFindsLittleRoomTheOthersJoinLate) {
  BeginWaves(6, 3);
  AcceptAll();
  for (int i = 0; i < 3; ++i) Say(Thinker(i), "seven.");
  ASSERT_EQ(gangs_.size(), 2u);
  Refuse(gangs_[1], ResourceExhausted("no room now"));
  ASSERT_EQ(gangs_.size(), 3u) << "fewer are tried at once";
  EXPECT_EQ(Of(gangs_[2]), std::vector{Thinker(3)});
  AcceptAll();
  Say(Thinker(3), "ab");
  Tell(CreditsChanged{.attempt = attempt_, .credits = 2});
  ASSERT_EQ(gangs_.size(), 4u);
  AcceptAll();
  Say(Thinker(3), ".");
  Say(Thinker(4), "c.");
  Say(Thinker(5), "c.");
  EndFamily();

  ASSERT_TRUE(succeeded_);
  const std::vector<Decision> expected = {{1, Kind::kJoin, 6 + 2, {Thinker(4), Thinker(5)}, {}}};
  EXPECT_EQ(completed().receipt.decisions, expected);
  EXPECT_EQ(completed().receipt.critical_path_tokens, 6 + 2 + 2);
  ExpectReplays();
}

TEST_F(WavesTest, AWaveForWhichThereIsNeverRoomIsNarrowedTogetherWithThoseBehindIt) {
  request_.stop_rule = StopRule::kSettled;
  BeginWaves(6, 2);
  AcceptAll();
  Say(Thinker(0), "seven.");
  Say(Thinker(1), "seven.");
  for (size_t i = 1; !finished_ && i < 1000; ++i) {
    ASSERT_EQ(gangs_.size(), i + 1);
    Refuse(gangs_[i], ResourceExhausted("no room now"));
    if (gangs_.size() == i + 1) Pass(limits_.retry_wait);
  }
  EXPECT_EQ(now_ - absl::FromUnixSeconds(1000), limits_.narrow_wait);
  EndFamily();

  ASSERT_TRUE(succeeded_);
  const std::vector<Decision> expected = {
      {1, Kind::kNarrow, 6, {Thinker(2), Thinker(3), Thinker(4), Thinker(5)}, {}}};
  EXPECT_EQ(completed().receipt.decisions, expected);
  EXPECT_EQ(completed().answer, "seven.");
  EXPECT_FALSE(completed().incomplete);
  ExpectReplays();
}

TEST_F(WavesTest, AWaveThatItsGroupNeverAnswersIsNotWaitedForLongerThanForRoom) {
  BeginWaves(4, 2);
  AcceptAll();
  Say(Thinker(0), "seven.");
  Say(Thinker(1), "seven.");
  ASSERT_EQ(gangs_.size(), 2u);
  Pass(limits_.narrow_wait - absl::Milliseconds(1));
  EXPECT_FALSE(finished_);
  Pass(absl::Milliseconds(1));
  EXPECT_TRUE(finished_);
  ASSERT_EQ(cancels_.size(), 1u);
  AcceptAll();  // It comes after all: nobody wants it any more.
  End(Thinker(2), Finish::kCancelled);
  End(Thinker(3), Finish::kCancelled);
  EndFamily();
  ASSERT_TRUE(succeeded_);
  const std::vector<Decision> expected = {{1, Kind::kNarrow, 6, {Thinker(2), Thinker(3)}, {}}};
  EXPECT_EQ(completed().receipt.decisions, expected);
  ExpectReplays();
}

TEST_F(WavesTest, ARefusalForGoodNarrowsTheWaveAndNotTheRequest) {
  BeginWaves(6, 3);
  AcceptAll();
  for (int i = 0; i < 3; ++i) Say(Thinker(i), "seven.");
  Refuse(gangs_[1], OutOfRange("one fits"), 1);
  ASSERT_EQ(gangs_.size(), 3u);
  AcceptAll();
  Say(Thinker(3), "seven.");
  EndFamily();
  ASSERT_TRUE(succeeded_);
  const std::vector<Decision> expected = {{1, Kind::kNarrow, 6, {Thinker(4), Thinker(5)}, {}}};
  EXPECT_EQ(completed().receipt.decisions, expected);
  ExpectReplays();
}

TEST_F(WavesTest, ADeadlineWhileAWaveIsOnItsWayAnswersFromThoseBeforeIt) {
  request_.deadline = absl::Seconds(1);
  BeginWaves(6, 2);
  AcceptAll();
  Say(Thinker(0), "seven.");
  Say(Thinker(1), "seven.");
  ASSERT_EQ(gangs_.size(), 2u);
  Pass(absl::Seconds(1));
  EXPECT_TRUE(finished_);
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "seven.");
  EXPECT_TRUE(completed().incomplete);
  // The wave was to enter and never was; those behind it were not asked.
  const std::vector<Decision> expected = {{1, Kind::kDeadline, 6, {Thinker(2), Thinker(3)}, {}}};
  EXPECT_EQ(completed().receipt.decisions, expected);
  ExpectReplays();
}

TEST_F(WavesTest, AStopInALaterWaveCutsItAndReplays) {
  BeginWaves(6, 2);
  AcceptAll();
  Say(Thinker(0), "seven.");
  Say(Thinker(1), "eight is it.");
  AcceptAll();
  Say(Thinker(2), "abc");
  Tell(StopRequested{});
  EXPECT_TRUE(finished_);
  EndFamily();

  ASSERT_TRUE(succeeded_);
  const std::vector<Decision> expected = {
      {1, Kind::kStopNow, 12, {}, {{Thinker(2), 3}, {Thinker(3), 0}}}};
  EXPECT_EQ(completed().receipt.decisions, expected);
  EXPECT_EQ(completed().answer, "seven.");
  ExpectReplays();
}

TEST_F(WavesTest, AGroupLostBetweenWavesIsReplacedAndTheWaveStartsWhereItWould) {
  BeginWaves(4, 2);
  AcceptAll();
  Say(Thinker(0), "seven.");
  Say(Thinker(1), "eight is it.");
  ASSERT_EQ(gangs_.size(), 2u);
  Lose(Unavailable("group g was lost"));
  EXPECT_TRUE(placing_);
  Place(2);
  ASSERT_EQ(gangs_.size(), 3u);
  EXPECT_EQ(Of(gangs_[2]), (std::vector{Thinker(2), Thinker(3)}));
  AcceptAll();
  Say(Thinker(2), "seven.");
  Say(Thinker(3), "x.");
  EndFamily();
  ASSERT_TRUE(succeeded_);
  EXPECT_TRUE(completed().receipt.decisions.empty());
  EXPECT_EQ(completed().receipt.critical_path_tokens, 12 + 6);
  EXPECT_EQ(completed().receipt.resumes, 0);
  ExpectReplays();
}

TEST_F(WavesTest, AGroupLostForGoodBetweenWavesLeavesTheVoteThatThereIs) {
  limits_.resume_wait = absl::Seconds(3);
  BeginWaves(6, 2);
  AcceptAll();
  Say(Thinker(0), "seven.");
  Say(Thinker(1), "seven.");
  Lose(Unavailable("group g was lost"));
  Pass(absl::Seconds(3));
  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "seven.");
  const std::vector<Decision> expected = {
      {1, Kind::kNarrow, 6, {Thinker(2), Thinker(3), Thinker(4), Thinker(5)}, {}}};
  EXPECT_EQ(completed().receipt.decisions, expected);
  ExpectReplays();
}

TEST_F(WavesTest, AStragglerOfAWaveIsGivenUpAndTheNextWaveBegins) {
  BeginWaves(4, 2);
  AcceptAll();
  Say(Thinker(0), "seven.");
  Pass(absl::Seconds(5));
  ASSERT_EQ(CountOf<Decision>(), 1);
  ASSERT_EQ(gangs_.size(), 2u);
  AcceptAll();
  Say(Thinker(2), "x.");
  Say(Thinker(3), "seven.");
  EndFamily();
  ASSERT_TRUE(succeeded_);
  const std::vector<Decision> expected = {{1, Kind::kDrop, 0, {Thinker(1)}, {{Thinker(1), 0}}}};
  EXPECT_EQ(completed().receipt.decisions, expected);
  EXPECT_EQ(completed().receipt.critical_path_tokens, 12);
  ExpectReplays();
}

TEST_F(WavesTest, AForgedReplayThatLetsAnAgentJoinBeforeItsWaveIsAborted) {
  Receipt receipt;
  receipt.fingerprint = "f";
  receipt.decision_version = kDecisionVersion;
  receipt.decisions = {{1, Kind::kJoin, 0, {Thinker(3)}, {}}};
  request_.max_agents = 4;
  request_.wave = 2;
  BeginReplay(receipt);
  Place(64);
  ASSERT_TRUE(failed_.has_value());
  EXPECT_EQ(failed_->code(), absl::StatusCode::kAborted);
}

}  // namespace
}  // namespace conclave::router
