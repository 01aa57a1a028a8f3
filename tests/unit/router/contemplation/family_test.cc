#include "router/contemplation/family.h"

#include <gtest/gtest.h>

#include "common/status.h"
#include "router/contemplation/plan.h"

namespace conclave::router {
namespace {

// A family that a test leads event by event.
class FamilyTest : public ::testing::Test {
 protected:
  void Begin(int agents, int least, const std::optional<ReplaySpec>& replay = std::nullopt) {
    ModelDescription model;
    model.name = "m";
    model.fingerprint = "f";
    model.max_positions = 1024;
    model.max_agents = 64;
    model.decision_version = kDecisionVersion;
    model.profile.aggregate_text = "{question}{candidates}";
    model.profile.candidate_line = "{answer}";
    model.profile.answer_tokens = 16;
    Request request;
    request.id = "r";
    request.messages = {{Role::kUser, {{"What?"}}}};
    request.mode = Mode::kContemplating;
    request.max_agents = agents;
    request.min_agents = least;
    request.replay = replay;
    const auto plan = MakePlan(request, model, limits_);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(plan->fingerprint, "f");
    family_.emplace(*plan, limits_);
    Tell(Started{});
  }

  void Tell(decltype(Event::what) what) {
    for (Command& command : family_->On({.at = now_, .what = std::move(what)})) {
      if (auto* open = std::get_if<OpenRun>(&command)) attempt_ = open->attempt;
      if (auto* gang = std::get_if<AddGang>(&command)) gangs_.push_back(*gang);
      if (auto* fail = std::get_if<Fail>(&command)) failed_ = fail->why;
      if (auto* emit = std::get_if<Emit>(&command)) events_.push_back(emit->event);
      if (auto* wake = std::get_if<WakeAt>(&command)) wake_ = wake->time;
    }
  }

  void Place(int credits) {
    Tell(Placed{.attempt = attempt_, .fingerprint = "f", .credits = credits, .words = "group g"});
  }

  void Accept(const AddGang& gang) {
    Accepted accepted{.attempt = gang.attempt, .agents = {}};
    for (const AgentRecipe& agent : gang.agents)
      accepted.agents.push_back({.id = agent.id, .prompt_tokens = 5});
    Tell(accepted);
  }

  void Refuse(const AddGang& gang, const absl::Status& why) {
    Refused refused{.attempt = gang.attempt, .agents = {}, .why = why, .width = 0};
    for (const AgentRecipe& agent : gang.agents) refused.agents.push_back(agent.id);
    Tell(refused);
  }

  // Goes on to when the family wants to be woken.
  void Wake() {
    now_ = wake_;
    Tell(Tick{});
  }

  template <typename T>
  int CountOf() const {
    return static_cast<int>(std::count_if(events_.begin(), events_.end(), [](const auto& event) {
      return std::holds_alternative<T>(event.what);
    }));
  }

  Limits limits_;
  absl::Time now_ = absl::FromUnixSeconds(1000);
  std::optional<Contemplation> family_;
  int attempt_ = 0;
  std::vector<AddGang> gangs_;
  std::vector<ClientEvent> events_;
  absl::Time wake_ = absl::InfiniteFuture();
  std::optional<absl::Status> failed_;
};

TEST_F(FamilyTest, AWaitThatEndsWhileALateGangIsOnItsWayIsOverWhenItIsRefused) {
  Begin(2, 1);
  Place(1);
  ASSERT_EQ(gangs_.size(), 1u);
  ASSERT_EQ(gangs_[0].agents.size(), 1u);
  Accept(gangs_[0]);
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
  const AgentId late = MakeAgentId(kThinkStage, 0, 1);
  const Decision join{
      .number = 1, .kind = Decision::Kind::kJoin, .clock = 3, .agents = {late}, .cuts = {}};
  Begin(2, 1,
        ReplaySpec{.seed = 0,
                   .time_of_day = 0,
                   .fingerprint = "f",
                   .decision_version = kDecisionVersion,
                   .decisions = {join},
                   .result_hash = ""});
  Place(2);
  ASSERT_EQ(gangs_.size(), 1u);
  Accept(gangs_[0]);
  now_ += 2 * limits_.narrow_wait;
  Tell(Tick{});
  EXPECT_EQ(CountOf<Decision>(), 0);
  Delta delta{.attempt = attempt_, .delta = {}};
  delta.delta.agent = MakeAgentId(kThinkStage, 0, 0);
  delta.delta.tokens.resize(3);
  Tell(delta);
  EXPECT_EQ(CountOf<Decision>(), 1);
  ASSERT_EQ(gangs_.size(), 2u);
  EXPECT_EQ(gangs_[1].agents[0].id, late);
}

TEST_F(FamilyTest, AGroupThatHasNoRoomForTheStreamIsNoLoss) {
  Begin(2, 1);
  for (int i = 0; i < 10; ++i) {
    Place(2);
    const int attempt = attempt_;
    Tell(Lost{.attempt = attempt, .why = ResourceExhausted("the group has 256 families")});
    ASSERT_FALSE(failed_.has_value()) << *failed_;
    Wake();
    ASSERT_EQ(attempt_, attempt + 1);
  }
  EXPECT_EQ(CountOf<GroupChanged>(), 0);
  Place(2);
  Accept(gangs_.back());
  EXPECT_EQ(CountOf<AgentStarted>(), 2);
  EXPECT_EQ(CountOf<GroupChanged>(), 0);
}

TEST_F(FamilyTest, ThreeLossesWithoutANewTokenEndTheRequest) {
  Begin(2, 1);
  for (int i = 0; i < 3; ++i) {
    ASSERT_FALSE(failed_.has_value());
    Place(2);
    Tell(Lost{.attempt = attempt_, .why = Unavailable("rank 1 was killed")});
    if (i == 1) Wake();
  }
  ASSERT_TRUE(failed_.has_value());
  EXPECT_EQ(failed_->code(), absl::StatusCode::kUnavailable);
}

TEST_F(FamilyTest, AnEndIsCountedAtItsOwnClock) {
  Begin(2, 2);
  Place(2);
  Accept(gangs_[0]);
  const auto say = [&](int agent, int first, int count, bool end) {
    Delta delta{.attempt = attempt_, .delta = {}};
    delta.delta.agent = MakeAgentId(kThinkStage, 0, agent);
    delta.delta.first = first;
    for (int i = 0; i < count; ++i) {
      delta.delta.tokens.push_back(
          {.token = {.id = 1, .logprob = 0, .top_logprob_mean = 0, .kind = {}}, .text_end = 0});
    }
    if (end) delta.delta.end = AgentEnding{.cause = Finish::kStop, .sampled = first + count};
    Tell(delta);
  };
  say(1, 0, 10, true);
  say(0, 0, 9, false);
  EXPECT_EQ(CountOf<AgentFinished>(), 0);  // Agent 0 is behind it.
  say(0, 9, 1, true);
  ASSERT_EQ(CountOf<AgentFinished>(), 2);
  std::vector<AgentId> order;
  for (const ClientEvent& event : events_) {
    if (std::holds_alternative<AgentFinished>(event.what)) order.push_back(event.agent);
  }
  EXPECT_EQ(IndexOf(order[0]), 0);  // At the same clock, the lower id comes first.
}

}  // namespace
}  // namespace conclave::router
