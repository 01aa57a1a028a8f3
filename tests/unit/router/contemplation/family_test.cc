#include "router/contemplation/family.h"

#include <gtest/gtest.h>

#include "common/status.h"
#include "tests/unit/router/contemplation/led_family.h"

namespace conclave::router {
namespace {

using FamilyTest = LedFamily;

TEST_F(FamilyTest, AWaitThatEndsWhileALateGangIsOnItsWayIsOverWhenItIsRefused) {
  Begin(2, 1);
  Place(1);
  ASSERT_EQ(gangs_.size(), 1u);
  ASSERT_EQ(gangs_[0].agents.size(), 1u);
  AcceptAll();
  now_ += limits_.retry_wait;
  Tell(Tick{});
  ASSERT_EQ(gangs_.size(), 2u);  // The second agent tries to join,
  now_ += limits_.narrow_wait;
  Tell(Tick{});  // the wait is over meanwhile,
  EXPECT_EQ(CountOf<Decision>(), 0);
  Refuse(gangs_[1], ResourceExhausted("no room now"));  // and there is no room.
  EXPECT_EQ(CountOf<Decision>(), 1);
  now_ += limits_.retry_wait;
  Tell(Tick{});
  EXPECT_EQ(gangs_.size(), 2u);
}

TEST_F(FamilyTest, AReplayDoesNotGiveUpItsLateAgentsBecauseItTakesLong) {
  Receipt receipt;
  receipt.fingerprint = "f";
  receipt.decision_version = kDecisionVersion;
  receipt.decisions = {{1, Decision::Kind::kJoin, 3, {Thinker(1)}, {}}};
  request_.max_agents = 2;
  BeginReplay(receipt);
  Place(2);
  ASSERT_EQ(gangs_.size(), 1u);
  AcceptAll();
  Pass(2 * limits_.narrow_wait);
  EXPECT_EQ(CountOf<Decision>(), 0);
  Say(Thinker(0), "abc");
  EXPECT_EQ(CountOf<Decision>(), 1);
  ASSERT_EQ(gangs_.size(), 2u);
  EXPECT_EQ(gangs_[1].agents[0].id, Thinker(1));
}

TEST_F(FamilyTest, AGroupThatHasNoRoomForTheStreamIsNoLoss) {
  Begin(2, 1);
  for (int i = 0; i < 10; ++i) {
    Place(2);
    const int attempt = attempt_;
    Lose(ResourceExhausted("the group has 256 families"));
    ASSERT_FALSE(failed_.has_value()) << *failed_;
    now_ = wake_;
    Tell(Tick{});
    ASSERT_EQ(attempt_, attempt + 1);
  }
  EXPECT_EQ(CountOf<GroupChanged>(), 0);
  Place(2);
  AcceptAll();
  EXPECT_EQ(CountOf<AgentStarted>(), 2);
  EXPECT_EQ(CountOf<GroupChanged>(), 0);
}

TEST_F(FamilyTest, AnEndIsCountedAtItsOwnClock) {
  Begin(2, 2);
  Place(2);
  AcceptAll();
  Say(Thinker(1), "ten words.");
  Say(Thinker(0), "nine word");
  EXPECT_EQ(CountOf<AgentFinished>(), 0);  // Agent 0 is behind it.
  Say(Thinker(0), ".");
  ASSERT_EQ(CountOf<AgentFinished>(), 2);
  std::vector<AgentId> order;
  for (const ClientEvent& event : events_) {
    if (std::holds_alternative<AgentFinished>(event.what)) order.push_back(event.agent);
  }
  EXPECT_EQ(IndexOf(order[0]), 0);  // At the same clock, the lower id comes first.
}

// What a broken group may say of a gang, an agent or itself: each is a loss, never a wrong count.

TEST_F(FamilyTest, AnEndWithoutItsLastTokenIsNotBelieved) {
  Begin(2, 1);
  Place(2);
  AcceptAll();
  Say(Thinker(0), "ab");
  End(Thinker(0), Finish::kStop);
  EXPECT_TRUE(closed_);
  EXPECT_EQ(CountOf<GroupChanged>(), 1);
  EXPECT_EQ(attempt_, 2);
  Place(2);
  ASSERT_GE(gangs_.size(), 2u);
  EXPECT_EQ(gangs_[1].agents[0].id, Thinker(0)) << "it goes on elsewhere";
}

TEST_F(FamilyTest, TokensOutOfOrderOrOthersThanBeforeAreNotBelieved) {
  Begin(2, 1);
  Place(2);
  AcceptAll();
  FamilyDelta gap;
  gap.agent = Thinker(0);
  gap.first = 1;
  gap.tokens = {{.token = {.id = 7}, .text_end = 0}};
  Tell(Delta{.attempt = attempt_, .delta = gap});
  EXPECT_EQ(attempt_, 2);

  Place(2);
  AcceptAll();
  Say(Thinker(0), "ab");
  FamilyDelta again = gap;
  Tell(Delta{.attempt = attempt_, .delta = again});  // Its second token was 'b'.
  EXPECT_EQ(attempt_, 3);
  EXPECT_FALSE(is_done());
}

TEST_F(FamilyTest, AnEndOfThinkingThatWasPutBeforeItsTimeIsNotBelieved) {
  model_.profile.thinks = true;
  request_.thinking_tokens = 3;
  Begin(2, 1);
  Place(2);
  AcceptAll();
  Say(Thinker(0), "aa");
  FamilyDelta put;
  put.agent = Thinker(0);
  put.first = 2;
  put.tokens = {{.token = {.id = 5, .kind = TokenKind::kForced}, .text_end = 2}};
  Tell(Delta{.attempt = attempt_, .delta = put});
  EXPECT_EQ(attempt_, 2);

  Place(2);
  AcceptAll();
  Say(Thinker(0), "a");
  put.first = 3;
  put.tokens[0].text_end = 3;
  Tell(Delta{.attempt = attempt_, .delta = put});
  EXPECT_EQ(attempt_, 2) << "there it belongs";
}

TEST_F(FamilyTest, ATokenThatWasPutForAnAgentThatDoesNotThinkIsNotBelieved) {
  Begin(2, 1);
  Place(2);
  AcceptAll();
  FamilyDelta put;
  put.agent = Thinker(0);
  put.tokens = {{.token = {.id = 5, .kind = TokenKind::kForced}, .text_end = 0}};
  Tell(Delta{.attempt = attempt_, .delta = put});
  EXPECT_EQ(attempt_, 2);
}

TEST_F(FamilyTest, AGangIsAnsweredWholeAndInOrder) {
  Begin(3, 1);
  Place(3);
  ASSERT_EQ(gangs_[0].agents.size(), 3u);
  Tell(Accepted{.attempt = attempt_, .agents = {{.id = Thinker(0), .prompt_tokens = 5}}});
  EXPECT_EQ(attempt_, 2);
  EXPECT_EQ(CountOf<AgentStarted>(), 0);

  Place(3);
  Tell(Refused{.attempt = attempt_,
               .agents = {Thinker(2)},
               .why = ResourceExhausted("no room now"),
               .width = 0});
  EXPECT_TRUE(closed_);
  EXPECT_FALSE(is_done());
}

TEST_F(FamilyTest, ALateGangIsNarrowedBelowWhatWasRefusedWhateverTheGroupSays) {
  Begin(4, 1);
  Place(2);
  AcceptAll();
  Tell(CreditsChanged{.attempt = attempt_, .credits = 2});
  ASSERT_EQ(gangs_.size(), 2u);
  Refuse(gangs_[1], OutOfRange("two are too many"), /*width=*/2);
  ASSERT_EQ(Decisions().size(), 1u);
  EXPECT_EQ(Decisions()[0].agents, (std::vector{Thinker(3)}));
}

TEST_F(FamilyTest, AGroupWithAnotherFingerprintNeverServes) {
  Begin(2, 1);
  Place(2, "g");
  EXPECT_TRUE(closed_);
  EXPECT_TRUE(gangs_.empty());
  EXPECT_EQ(CountOf<Admitted>(), 0);
  EXPECT_EQ(attempt_, 2);
  Place(2);
  EXPECT_EQ(gangs_.size(), 1u);
}

TEST_F(FamilyTest, WhoLeavesIsBilledToTheTokenWhenHisAgentsHaveEnded) {
  Begin(2, 1);
  Place(2);
  AcceptAll();
  Say(Thinker(0), "ab");
  const size_t told = events_.size();
  Tell(ClientGone{});
  ASSERT_EQ(cancels_.size(), 1u);
  EXPECT_EQ(cancels_[0].agents, (std::vector{Thinker(0), Thinker(1)}));
  EXPECT_TRUE(finished_);
  EXPECT_FALSE(closed_);

  Say(Thinker(1), "cde");  // It was on its way.
  End(Thinker(0), Finish::kCancelled);
  End(Thinker(1), Finish::kCancelled);
  EXPECT_FALSE(is_done());
  Tell(FamilyEnded{.attempt = attempt_, .totals = {.prompt_computed = 5, .probed = 7}});

  ASSERT_TRUE(failed_.has_value());
  EXPECT_EQ(failed_->code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(events_.size(), told);
  EXPECT_EQ(bill_.tokens, 2 + 3);
  EXPECT_EQ(bill_.probe_tokens, 7);
  EXPECT_EQ(bill_.prompt.computed, 5);
  EXPECT_EQ(bill_.prompt.shared, 5);
}

TEST_F(FamilyTest, AGangThatIsOnItsWayWhenItsClientLeavesIsBilledToo) {
  Begin(2, 1);
  Place(2);
  Tell(ClientGone{});
  EXPECT_FALSE(is_done());
  AcceptAll();
  EXPECT_EQ(CountOf<AgentStarted>(), 0);
  End(Thinker(0), Finish::kCancelled);
  End(Thinker(1), Finish::kCancelled);
  EndFamily();
  ASSERT_TRUE(failed_.has_value());
  EXPECT_EQ(bill_.tokens, 0);
  EXPECT_EQ(bill_.prompt.total, 10);
}

TEST_F(FamilyTest, ABillThatDoesNotComeIsNotWaitedForWithoutEnd) {
  Begin(2, 1);
  Place(2);
  AcceptAll();
  Say(Thinker(0), "ab");
  Tell(ClientGone{});
  Pass(limits_.receipt_wait - absl::Milliseconds(1));
  EXPECT_FALSE(is_done());
  Pass(absl::Milliseconds(1));
  ASSERT_TRUE(failed_.has_value());
  EXPECT_TRUE(closed_);
  EXPECT_EQ(bill_.tokens, 2);
  EXPECT_EQ(bill_.prompt.computed, 10) << "nobody said that any was shared";
}

TEST_F(FamilyTest, WhoseGroupHasNobodyOfHisEndsAtOnce) {
  Begin(2, 1);
  Tell(ClientGone{});
  EXPECT_TRUE(is_done());
  EXPECT_TRUE(closed_);
  EXPECT_EQ(bill_.prompt.total, 0);
}

TEST_F(FamilyTest, TheStreamIsHalfClosedWhenNothingCanBeAskedOfItAnyMore) {
  request_.stop_rule = StopRule::kNone;
  request_.aggregation = Aggregation::kVote;
  Begin(2, 1);
  Place(2);
  AcceptAll();
  Say(Thinker(0), "seven.");
  EXPECT_FALSE(finished_);  // The other may still have to be cancelled.
  Say(Thinker(1), "seven.");
  EXPECT_TRUE(finished_);
  EXPECT_FALSE(is_done());
  EndFamily();
  EXPECT_EQ(completed().answer, "seven.");
}

}  // namespace
}  // namespace conclave::router
