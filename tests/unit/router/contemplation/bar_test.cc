#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <variant>
#include <vector>

#include "router/contemplation/family.h"
#include "router/contemplation/plan.h"

// Agents that their bar ended, and votes that have weight.
namespace conclave::router {
namespace {

AgentId A(int index) { return MakeAgentId(kThinkStage, 0, index); }

// One agent's whole life: so many tokens of one confidence, a text, an end.
struct Life {
  int tokens = 1;
  std::string answer;
  Finish cause = Finish::kStop;
  float top = -8;
};

class BarTest : public ::testing::Test {
 protected:
  BarTest() {
    request_.id = "r";
    request_.messages = {{Role::kUser, {{"What?"}}}};
    request_.mode = Mode::kContemplating;
    request_.answer_key = AnswerKeySpec{.kind = AnswerKeySpec::Kind::kAnswerLine, .argument = {}};
    request_.aggregation = Aggregation::kVote;
    request_.stop_rule = StopRule::kNone;
    request_.confidence_bar = 4;
    request_.confidence_window = 2;
  }

  // Places a family of so many agents, which have said nothing yet.
  void Begin(int agents) {
    ModelDescription model;
    model.name = "m";
    model.fingerprint = "f";
    model.max_positions = 1024;
    model.profile.aggregate_text = "{question}{candidates}";
    model.profile.candidate_line = "{answer};";
    model.profile.answer_tokens = 64;
    request_.max_agents = agents;
    const auto plan = MakePlan(request_, model, {});
    ASSERT_TRUE(plan.ok()) << plan.status();
    family_.emplace(*plan, Limits{});
    Tell(Started{});
    Tell(Placed{.attempt = 1, .fingerprint = "f", .credits = 64, .words = "group g"});
    AcceptAll();
  }

  // Runs all agents to their ends.
  void Run(const std::vector<Life>& lives) {
    Begin(static_cast<int>(lives.size()));
    for (size_t i = 0; i < lives.size(); ++i) Live(A(static_cast<int>(i)), lives[i]);
  }

  void Live(AgentId agent, const Life& life) {
    Delta delta{.attempt = 1, .delta = {}};
    delta.delta.agent = agent;
    for (int i = 0; i < life.tokens; ++i) {
      const bool last = i + 1 == life.tokens;
      delta.delta.tokens.push_back(
          {.token = {.id = 1, .logprob = -1, .top_logprob_mean = life.top, .kind = {}},
           .text_end = last ? static_cast<int64_t>(life.answer.size()) : 0});
    }
    delta.delta.answer = life.answer;
    delta.delta.end = AgentEnding{.cause = life.cause, .sampled = life.tokens};
    Tell(delta);
  }

  void Tell(decltype(Event::what) what) {
    for (Command& command : family_->On({.at = now_, .what = std::move(what)})) {
      if (auto* gang = std::get_if<AddGang>(&command)) gangs_.push_back(*gang);
      if (auto* emit = std::get_if<Emit>(&command)) {
        if (auto* done = std::get_if<Completed>(&emit->event.what)) completed_ = *done;
        if (auto* finished = std::get_if<AgentFinished>(&emit->event.what))
          finished_.push_back(*finished);
        if (auto* cut = std::get_if<AgentCut>(&emit->event.what)) cuts_.push_back(*cut);
      }
    }
  }

  void AcceptAll() {
    Accepted accepted{.attempt = 1, .agents = {}};
    for (const AgentRecipe& agent : gangs_.back().agents)
      accepted.agents.push_back({.id = agent.id, .prompt_tokens = 5});
    Tell(accepted);
  }

  void Finish() {
    Tell(FamilyEnded{.attempt = 1, .totals = {}});
    ASSERT_TRUE(completed_.has_value());
  }

  Request request_;
  absl::Time now_ = absl::FromUnixSeconds(1000);
  std::optional<Contemplation> family_;
  std::vector<AddGang> gangs_;
  std::vector<AgentFinished> finished_;
  std::vector<AgentCut> cuts_;
  std::optional<Completed> completed_;
};

constexpr auto kBar = ::conclave::Finish::kBar;

TEST_F(BarTest, AnAgentThatItsBarEndedHasNoVote) {
  Run({{4, "Answer: 7", kBar}, {4, "Answer: 7", kBar}, {6, "Answer: 5"}});
  Finish();
  EXPECT_EQ(completed_->answer, "Answer: 5");
  EXPECT_FALSE(completed_->incomplete);
  ASSERT_EQ(completed_->receipt.votes.size(), 1u);
  EXPECT_EQ(completed_->receipt.votes[0], (Vote{"5", 1, 1}));
  EXPECT_EQ(finished_[0].reason, kBar);
  EXPECT_EQ(finished_[0].answer, std::nullopt);
  EXPECT_EQ(finished_[0].weight, 0);
  EXPECT_EQ(finished_[0].lowest_window_confidence, 8);
  EXPECT_EQ(finished_[2].weight, 1);
}

TEST_F(BarTest, WhoeverEndedByItselfSpeaksBeforeThoseWhomTheirBarEnded) {
  Run({{4, "Answer: 7", kBar}, {6, "no idea"}});
  Finish();
  EXPECT_EQ(completed_->answer, "no idea");
}

TEST_F(BarTest, ARoundInWhichAllWereDroppedAnswersWithTheEarliestTextAndSaysSo) {
  Run({{6, "Answer: 7", kBar}, {4, "", kBar}, {5, "Answer: 5", kBar}});
  Finish();
  EXPECT_EQ(completed_->answer, "Answer: 5");
  EXPECT_TRUE(completed_->incomplete);
  EXPECT_TRUE(completed_->receipt.votes.empty());
}

TEST_F(BarTest, ARoundInWhichAllWereDroppedIsSynthesisedWhereNoVoteIsSure) {
  request_.aggregation = Aggregation::kAuto;
  Run({{4, "one", kBar}, {5, "two", kBar}, {6, "", kBar}});
  ASSERT_EQ(gangs_.size(), 2u);
  EXPECT_EQ(TextOf(gangs_.back().agents[0].messages.back()), "What?one;\ntwo;");
  EXPECT_EQ(gangs_.back().agents[0].bar, ConfidenceBar{});
  AcceptAll();
  Live(gangs_.back().agents[0].id, {3, "merged"});
  Finish();
  EXPECT_EQ(completed_->answer, "merged");
  EXPECT_FALSE(completed_->incomplete);
}

TEST_F(BarTest, DroppedAgentsAreNoCandidates) {
  request_.aggregation = Aggregation::kSynthesise;
  Run({{4, "Answer: 7", kBar}, {5, "Answer: 5"}, {6, "Answer: 6"}});
  ASSERT_EQ(gangs_.size(), 2u);
  EXPECT_EQ(TextOf(gangs_.back().agents[0].messages.back()), "What?Answer: 5;\nAnswer: 6;");
}

TEST_F(BarTest, DroppedAgentsAreNotAmongTheFirstEndsAndAreNoVotesToCome) {
  request_.stop_rule = StopRule::kFirst;
  request_.stop_votes = 1;
  Run({{4, "Answer: 7", kBar}, {6, "Answer: 5"}, {9, "Answer: 6"}});
  Finish();
  EXPECT_EQ(completed_->answer, "Answer: 5");
  EXPECT_EQ(cuts_.size(), 1u) << "the first end by itself stops the round";
}

TEST_F(BarTest, AtTheDeadlineThoseThatWereCutVoteWhenOnlyDroppedOnesWereCounted) {
  request_.stop_rule = StopRule::kSettled;
  Begin(2);
  Live(A(0), {4, "Answer: 7", kBar});
  Delta running{.attempt = 1, .delta = {}};
  running.delta.agent = A(1);
  running.delta.tokens.resize(9);
  running.delta.tokens.back().text_end = 9;
  running.delta.answer = "Answer: 5";
  Tell(running);
  Tell(StopRequested{});
  Finish();
  EXPECT_EQ(completed_->answer, "Answer: 5");
  EXPECT_EQ(completed_->receipt.votes, (std::vector<Vote>{{"5", 1, 1}}));
}

TEST_F(BarTest, AWeightedVoteTakesTheWeightierAnswer) {
  request_.aggregation = Aggregation::kWeightedVote;
  request_.confidence_bar.reset();
  Run({{4, "Answer: 7", ::conclave::Finish::kStop, -4},
       {5, "Answer: 7", ::conclave::Finish::kStop, -4},
       {6, "Answer: 5", ::conclave::Finish::kStop, -16}});
  Finish();
  EXPECT_EQ(completed_->answer, "Answer: 5");
  EXPECT_EQ(completed_->method, Aggregation::kWeightedVote);
  EXPECT_EQ(completed_->receipt.votes, (std::vector<Vote>{{"5", 0.5, 1}, {"7", 0.25, 2}}));
  EXPECT_EQ(completed_->receipt.agents[2].weight, 0.5);
  EXPECT_EQ(completed_->receipt.agents[2].lowest_window_confidence, 16);
}

}  // namespace
}  // namespace conclave::router
