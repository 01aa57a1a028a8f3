#pragma once

#include <cstdint>

namespace conclave {

// An index into a model's vocabulary.
using TokenId = int32_t;

// One agent of a family: stage (8 bits) | round (8) | index (16). The plan assigns it, never the
// order of arrival, and it is part of every random draw: an agent's text depends on its id, not on
// who else ran.
enum class AgentId : uint32_t {};

constexpr AgentId MakeAgentId(int stage, int round, int index) {
  return static_cast<AgentId>(static_cast<uint32_t>(stage) << 24 |
                              static_cast<uint32_t>(round) << 16 | static_cast<uint32_t>(index));
}
constexpr int StageOf(AgentId id) { return static_cast<int>(static_cast<uint32_t>(id) >> 24); }
constexpr int RoundOf(AgentId id) {
  return static_cast<int>(static_cast<uint32_t>(id) >> 16 & 0xffu);
}
constexpr int IndexOf(AgentId id) { return static_cast<int>(static_cast<uint32_t>(id) & 0xffffu); }

// Stages of a contemplating request, as they stand in AgentId.
inline constexpr int kThinkStage = 0;      // Agents that answer the question, round by round.
inline constexpr int kAggregateStage = 1;  // The synthesiser.
inline constexpr int kSplitStage = 2;      // The one that splits the question.
inline constexpr int kPartStage = 3;       // Agents that answer a part; its number is the round.

}  // namespace conclave
