#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/chat.h"
#include "router/fleet/worker_client.h"

// Where a family goes. Pure: a view of the fleet and a question in, a group out.
namespace conclave::router {

// One group as the router knows it.
struct GroupView {
  std::string address;
  bool reachable = false;
  std::shared_ptr<const GroupDescription>
      description;      // Shared with the fleet, never changed; null: never met.
  GroupLoad load;       // Credits less what was sent since it was reported.
  std::string trouble;  // Why it is not reachable.

  bool ready() const { return reachable && load.ready; }
};

struct PlacementQuestion {
  std::string model;
  std::string fingerprint;    // Only groups with this one. Empty: any.
  int agents = 1;             // Agents that must be able to enter at once.
  int64_t prompt_tokens = 0;  // An estimate: what computing the prompt costs.
  uint64_t prefix = 0;        // PrefixOf the messages.
};

// The group that most likely holds the prompt's prefix, unless its queue costs more than computing
// the prompt; otherwise the one with the least queue. Index into `groups`; nullopt: none has room
// now, or none serves it.
std::optional<int> Place(const std::vector<GroupView>& groups, const PlacementQuestion& question);

// A hash of the conversation's beginning, up to its first user turn: all turns of a conversation
// have the same one.
uint64_t PrefixOf(const std::vector<Message>& messages);

// A guess at how many tokens messages are: a token is about four bytes.
int64_t EstimateTokens(const std::vector<Message>& messages);

}  // namespace conclave::router
