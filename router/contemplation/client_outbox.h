#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <utility>

#include "router/contemplation/client_event.h"

namespace conclave::router {

// What waits to be written to one client. A delta merges into the pending delta of its agent, so a
// slow client costs memory bounded by granted tokens, never a token; events are numbered when they
// leave. A delta holds at most kMostDelta, so that it is far from gRPC's 4 MiB for a message: more
// goes into a further one. One thread at a time.
class ClientOutbox {
 public:
  // Bytes of a delta: its texts, and for each token kTokenBytes (what one takes on the wire, at
  // most) and what is told of it.
  static constexpr size_t kMostDelta = 1 << 20;
  static constexpr size_t kTokenBytes = 24;

  void Push(ClientEvent event);
  // The next event with its sequence number; nullopt when nothing waits.
  std::optional<ClientEvent> Pop();
  bool empty() const { return events_.empty(); }
  // What waits, in order, not numbered yet.
  const std::deque<ClientEvent>& events() const { return events_; }

 private:
  using Key = std::pair<size_t, AgentId>;  // Kind of delta, agent.

  // Of at most kMostDelta.
  void PushDelta(ClientEvent event);

  std::deque<ClientEvent> events_;
  // A delta that waits and takes more.
  struct Pending {
    int64_t number = 0;
    size_t bytes = 0;
  };
  int64_t popped_ = 0;              // events_[i] was or will be number popped_ + 1 + i.
  std::map<Key, Pending> pending_;  // Each agent's last delta that waits.
};

}  // namespace conclave::router
