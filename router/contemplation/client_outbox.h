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
// leave. One thread at a time.
class ClientOutbox {
 public:
  void Push(ClientEvent event);
  // The next event with its sequence number; nullopt when nothing waits.
  std::optional<ClientEvent> Pop();
  bool empty() const { return events_.empty(); }

 private:
  using Key = std::pair<size_t, AgentId>;  // Kind of delta, agent.

  std::deque<ClientEvent> events_;
  int64_t popped_ = 0;              // events_[i] was or will be number popped_ + 1 + i.
  std::map<Key, int64_t> pending_;  // Numbers of the deltas that wait.
};

}  // namespace conclave::router
