#include "common/agent_names.h"

#include <gtest/gtest.h>

namespace conclave {
namespace {

TEST(AgentNamesTest, AgentsCountFromOneAndTheSynthesiserHasAName) {
  EXPECT_EQ(AgentName(MakeAgentId(kThinkStage, 0, 2)), "agent 3");
  EXPECT_EQ(AgentName(MakeAgentId(kAggregateStage, 0, 0)), "synthesiser");
  EXPECT_EQ(AgentName(MakeAgentId(kThinkStage, 1, 2)), "agent 3 of round 2");
  EXPECT_EQ(AgentName(MakeAgentId(kSplitStage, 0, 0)), "splitter");
  EXPECT_EQ(AgentName(MakeAgentId(kPartStage, 1, 0)), "agent 1 of part 2");
}

TEST(AgentNamesTest, SeveralAreNamedInFewWordsInOrder) {
  const auto think = [](int index) { return MakeAgentId(kThinkStage, 0, index); };

  EXPECT_EQ(AgentNames({think(4)}), "agent 5");
  EXPECT_EQ(AgentNames({think(4), think(0), think(3), think(2)}), "agents 1, 3-5");
  EXPECT_EQ(AgentNames({MakeAgentId(kAggregateStage, 0, 0), think(0)}),
            "agent 1 and the synthesiser");
  EXPECT_EQ(AgentNames({MakeAgentId(kThinkStage, 1, 3), MakeAgentId(kThinkStage, 1, 2), think(0),
                        MakeAgentId(kPartStage, 0, 0)}),
            "agent 1 and agents 3-4 of round 2 and agent 1 of part 1");
  EXPECT_EQ(AgentNames({MakeAgentId(kAggregateStage, 0, 0)}), "the synthesiser");
}

TEST(RangesTest, NumbersAreToldInOrderEachOnce) {
  EXPECT_EQ(Ranges({}), "");
  EXPECT_EQ(Ranges({9, 7, 8, 8, 1}), "1, 7-9");
}

}  // namespace
}  // namespace conclave
