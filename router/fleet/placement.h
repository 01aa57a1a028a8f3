#pragma once

#include <absl/time/time.h>

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
  int number = -1;  // The fleet's; no other group ever gets it.
  std::string address;
  uint64_t address_hash = 0;  // HashOfAddress.
  bool reachable = false;
  bool leaving = false;  // No longer a member: it ends what it serves, and takes nothing new.
  absl::Time rests_until = absl::InfinitePast();  // It lost families; others go first until then.
  std::shared_ptr<const GroupDescription>
      description;      // Shared with the fleet, never changed; null: never met.
  GroupLoad load;       // As reported, and what was sent since: less credits, more queue.
  std::string trouble;  // Why it is not reachable.

  bool ready() const { return reachable && load.ready && !leaving; }
};

struct PlacementQuestion {
  std::string model;
  std::string fingerprint;    // Only groups with this one. Empty: any.
  int agents = 1;             // Agents that are to enter at once,
  int least = 0;              // or so many as are worth it at a group's load; 0: all of them.
  int64_t prompt_tokens = 0;  // An estimate: what computing the prompt costs.
  uint64_t prefix = 0;        // PrefixOf the messages.
};

// The group that most likely holds the prompt's prefix, unless its queue costs more than computing
// the prompt; otherwise the one with the least queue. Groups that rest are asked only when every
// group that serves it rests. Index into `groups`; nullopt: none has room now, or none serves it.
// Costs one pass over the groups (tests print how long it takes for 1,000).
std::optional<int> Place(const std::vector<const GroupView*>& groups,
                         const PlacementQuestion& question, absl::Time now);

// Whether `group` serves what is asked for and has room for it, resting or not.
bool CouldTake(const GroupView& group, const PlacementQuestion& question);

// What decides which prefixes are a group's own: the same in every router.
uint64_t HashOfAddress(const std::string& address);

// A hash of the conversation's beginning, up to its first user turn: all turns of a conversation
// have the same one.
uint64_t PrefixOf(const std::vector<Message>& messages);

// A guess at how many tokens messages are: a token is about four bytes.
int64_t EstimateTokens(const std::vector<Message>& messages);

}  // namespace conclave::router
