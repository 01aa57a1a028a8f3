#include "common/agent_names.h"

#include <gtest/gtest.h>

namespace conclave {
namespace {

TEST(AgentNamesTest, AgentsCountFromOneAndTheSynthesiserHasAName) {
  EXPECT_EQ(AgentName(MakeAgentId(kThinkStage, 0, 2)), "agent 3");
  EXPECT_EQ(AgentName(MakeAgentId(kAggregateStage, 0, 0)), "synthesiser");
}

TEST(AgentNamesTest, SeveralAreNamedInFewWordsInOrder) {
  const auto think = [](int index) { return MakeAgentId(kThinkStage, 0, index); };

  EXPECT_EQ(AgentNames({think(4)}), "agent 5");
  EXPECT_EQ(AgentNames({think(4), think(0), think(3), think(2)}), "agents 1, 3-5");
  EXPECT_EQ(AgentNames({MakeAgentId(kAggregateStage, 0, 0), think(0)}),
            "agent 1 and the synthesiser");
  EXPECT_EQ(AgentNames({MakeAgentId(kAggregateStage, 0, 0)}), "the synthesiser");
}

TEST(RangesTest, NumbersAreToldInOrderEachOnce) {
  EXPECT_EQ(Ranges({}), "");
  EXPECT_EQ(Ranges({9, 7, 8, 8, 1}), "1, 7-9");
}

}  // namespace
}  // namespace conclave
