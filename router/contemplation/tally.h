#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "common/types.h"

namespace conclave::router {

// Token time of one family: who runs, where each clock stands, which end is counted next. Numbers
// only. An agent's clock is its start + the tokens received from it; the family's clock is the
// least clock of those that run and, when none runs, the greatest clock reached. What stands past a
// cut was never reached.
class Tally {
 public:
  enum class State : uint8_t {
    kAbsent,   // Waits, or never was.
    kRuns,     // Entered (from the sending of its gang on), its end not received.
    kEnded,    // Its end was received, not counted.
    kCounted,  // Its end was counted.
    kCut,      // Cut or dropped.
  };

  // It runs from now on, at clock `start`. REQUIRES: absent.
  void Enter(AgentId agent, int64_t start);
  // Its gang was refused: it never was. REQUIRES: runs.
  void Withdraw(AgentId agent);
  // It has `count` tokens. REQUIRES: runs; counts never go back.
  void Advance(AgentId agent, int count);
  // Its end was received. REQUIRES: runs.
  void End(AgentId agent);
  // REQUIRES: ended.
  void Count(AgentId agent);
  // It keeps `kept` tokens, at most its count. REQUIRES: runs or ended.
  void Cut(AgentId agent, int kept);

  // The earliest received end that is not counted, by (clock, agent).
  std::optional<AgentId> NextEnd() const;
  // The same, if no running agent's clock is below it.
  std::optional<AgentId> NextCountable() const;

  State StateOf(AgentId agent) const;
  int64_t ClockOf(AgentId agent) const;  // REQUIRES: not absent.
  int64_t StartOf(AgentId agent) const;  // REQUIRES: not absent.
  int64_t clock() const;                 // The family's.
  // In order of id.
  std::vector<AgentId> In(State state) const;
  bool Any(State state) const;

 private:
  struct Entry {
    AgentId agent{};
    State state = State::kRuns;
    int64_t start = 0;
    int64_t count = 0;
    int64_t clock() const { return start + count; }
  };

  const Entry* Find(AgentId agent) const;
  Entry& At(AgentId agent);

  std::vector<Entry> entries_;  // In order of id; a family has at most some sixty.
};

}  // namespace conclave::router
