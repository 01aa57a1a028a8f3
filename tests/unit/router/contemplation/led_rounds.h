#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/unit/router/contemplation/led_family.h"

namespace conclave::router {

inline constexpr AgentId kSplitter = MakeAgentId(kSplitStage, 0, 0);
inline AgentId Refiner(int index, int round = 1) { return MakeAgentId(kThinkStage, round, index); }
inline AgentId OfPart(int part, int index = 0) { return MakeAgentId(kPartStage, part, index); }

inline std::vector<AgentId> Of(const AddGang& gang) {
  std::vector<AgentId> ids;
  for (const AgentRecipe& agent : gang.agents) ids.push_back(agent.id);
  return ids;
}

inline std::string Told(const AgentRecipe& recipe) {
  return recipe.messages.empty() ? "" : TextOf(recipe.messages.back());
}

// A family in rounds, or in parts, that a test leads event by event.
class LedRounds : public LedFamily {
 protected:
  LedRounds() {
    limits_.straggler_patience = absl::Seconds(5);
    request_.stop_rule = StopRule::kNone;
    request_.aggregation = Aggregation::kVote;
    model_.profile.candidate_line = "[{answer}]";
    model_.profile.refine_text = "{question} Drafts: {candidates}";
    model_.profile.split_text = "Split {question}";
    model_.profile.join_text = "Join {question} {candidates}";
    model_.profile.join_line = "{part}={answer}";
  }

  void BeginStrategy(Strategy strategy, int agents, int least = 1) {
    request_.strategy = strategy;
    Begin(agents, least);
    Place(64);
    AcceptAll();
  }
  // Two agents that do not agree, and the round behind them.
  void ComeToSecondRound() {
    BeginStrategy(Strategy::kRefine, 2);
    Say(Thinker(0), "ab.");
    Say(Thinker(1), "cde.");
    ASSERT_EQ(gangs_.size(), 2u);
  }
  // A question in two parts, and their agents.
  void ComeToParts(int agents) {
    BeginStrategy(Strategy::kDecompose, agents);
    Say(kSplitter, "one\ntwo.");
    ASSERT_EQ(gangs_.size(), 2u);
    AcceptAll();
  }
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
};

}  // namespace conclave::router
