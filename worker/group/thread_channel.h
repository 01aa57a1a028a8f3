#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "worker/group/control_channel.h"

namespace conclave::worker {

// The channel between threads of one process, for groups whose ranks are threads. Holds at most
// `capacity` messages that some follower has not read. Its two sides must not outlive it.
class ThreadChannel {
 public:
  ThreadChannel(int num_followers, size_t capacity);
  ~ThreadChannel();

  LeaderChannel& leader();
  FollowerChannel& follower(int index);  // From 0.

 private:
  struct State;
  class Leader;
  class Follower;

  std::unique_ptr<State> state_;
  std::unique_ptr<Leader> leader_;
  std::vector<std::unique_ptr<Follower>> followers_;
};

}  // namespace conclave::worker
