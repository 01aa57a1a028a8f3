#pragma once

#include <deque>
#include <map>
#include <optional>

#include "common/family.h"
#include "common/wire/family_wire.h"

namespace conclave::worker {

// What a family's stream still has to say, in order. An agent has one pending delta into which its
// new tokens merge, so what waits for a slow router is bounded by granted tokens, and a slow router
// gets fewer, larger messages. Not thread-safe.
class Outbox {
 public:
  // A delta that has this many tokens, or this many bytes told of them, takes no more, so that a
  // message stays far below gRPC's limit of 4 MiB.
  static constexpr size_t kMostTokens = 4096;
  static constexpr size_t kMostTold = size_t{1} << 20;

  void Push(GangAccepted accepted) { events_.push_back(std::move(accepted)); }
  void Push(GangRefused refused) { events_.push_back(std::move(refused)); }
  void Push(FamilyTotals totals) { events_.push_back(totals); }
  // The agent's tokens that are pushed later come behind it.
  void Push(ProbeResult probe);
  // Tokens of one agent, behind those that were pushed before. `delta.end` is not set.
  void Push(FamilyDelta delta);
  // The agent's end: a field of its pending delta, or a delta without tokens at index `count` when
  // all its tokens have left.
  void PushEnd(AgentId agent, int count, const AgentEnding& end);

  bool empty() const { return events_.empty(); }
  size_t size() const { return events_.size(); }
  // The next event, if there is one.
  std::optional<FamilyEvent> Pop();
  void Clear();

 private:
  // A delta that still takes tokens.
  struct Open {
    FamilyDelta* delta = nullptr;  // In `events_`, whose elements do not move.
    size_t told = 0;               // ToldBytes of its tokens.
  };
  FamilyDelta& Append(FamilyDelta delta, size_t told);

  std::deque<FamilyEvent> events_;
  std::map<AgentId, Open> open_;  // The last delta of each agent that is in `events_`.
};

}  // namespace conclave::worker
