#pragma once

#include <grpcpp/channel.h>

#include <memory>

#include "common/timer_thread.h"
#include "router/fleet/worker_client.h"

namespace conclave::router {

// How soon a group that can't be reached is tried again: doubling from the first to the second.
struct WatchBackoff {
  absl::Duration least = absl::Milliseconds(200);
  absl::Duration most = absl::Seconds(5);
};

// Describes the group behind `channel`, then follows its load; after a break it begins anew. All
// references must outlive the watch.
std::unique_ptr<GroupWatch> WatchGroup(std::shared_ptr<grpc::Channel> channel, TimerThread& timers,
                                       WatchBackoff backoff, GroupEvents& events);

}  // namespace conclave::router
