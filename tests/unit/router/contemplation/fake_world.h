#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/family.h"

// What agents of a test say, whoever runs them.
namespace conclave::router {

// Random numbers that are the same everywhere (SplitMix64).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  }
  int Below(int n) { return static_cast<int>(Next() % static_cast<uint64_t>(n)); }
  int Between(int low, int high) { return low + Below(high - low + 1); }
  bool Chance(int percent) { return Below(100) < percent; }

 private:
  uint64_t state_;
};

// What an agent would say with tokens without end: a pure function of (seed, agent).
struct FakeStream {
  std::vector<TextToken> tokens;
  std::string thinking, answer;

  // Tokens [from, to) as a stream carries them.
  FamilyDelta Cut(AgentId agent, int from, int to) const;
};

// Where an agent ends if nobody ends it.
struct FakeEnd {
  int length = 0;
  Finish cause = Finish::kStop;
};

// What agents say, for one seed.
struct World {
  uint64_t seed = 0;
  int longest = 30;  // Tokens of an agent.
  int answers = 3;   // Different answers.
  int mute = 10;     // Percent of agents without an answer that the key finds.
  int prompt_tokens = 10;
  bool picks = false;         // The aggregation pass says a number.
  int forced_from = 1 << 30;  // The end of thinking is never put before this token.

  const FakeStream& StreamOf(AgentId agent) const;
  // By the definitions of grant and bar.
  FakeEnd EndOf(const AgentRecipe& recipe) const;
  // Whether a copy of it is made when it has `count` tokens: it thinks then.
  bool AsksAt(const AgentRecipe& recipe, int count) const;
  ProbeResult Ask(AgentId agent, int at) const;
  int PromptOf(AgentId agent) const {
    return prompt_tokens + (StageOf(agent) == kAggregateStage ? 7 : 0);
  }

 private:
  mutable std::map<AgentId, FakeStream> streams_;
};

}  // namespace conclave::router
