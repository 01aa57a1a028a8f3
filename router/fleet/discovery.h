#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include <set>
#include <string>
#include <thread>
#include <vector>

#include "common/log.h"
#include "common/metrics.h"
#include "router/fleet/fleet.h"
#include "router/fleet/resolver.h"

namespace conclave::router {

// Who the members of the fleet are.
struct DiscoveryOptions {
  std::vector<std::string> addresses;  // Always members, host:port.
  std::string dns;                     // host:port; each address of the host is one. Empty: none.
  absl::Duration every = absl::Seconds(5);  // `dns` is resolved again after this.
  int max_groups = 256;                     // Most members.
};

// Keeps the fleet's members as the list and the name say. When the name does not resolve, the last
// members stay. Beyond `max_groups`, those stay that are members already, then the least addresses
// come. One thread of its own, the only one that resolves.
class Discovery {
 public:
  // All references must outlive it.
  Discovery(DiscoveryOptions options, Resolver& resolver, Fleet& fleet, Fleet::MakeClient make,
            const Logger& logger, Metrics& metrics);
  // Waits for a resolution that is under way.
  ~Discovery();

  Discovery(const Discovery&) = delete;
  Discovery& operator=(const Discovery&) = delete;

  // Begins with the list at once and the name right after it, and goes on. Once.
  void Start();
  // One resolution, by the caller. Not together with Start.
  void Refresh();

 private:
  void Run();
  void SetMembers();

  const DiscoveryOptions options_;
  Resolver& resolver_;
  Fleet& fleet_;
  const Fleet::MakeClient make_;
  const Logger logger_;
  Counter resolved_, failed_;
  Gauge addresses_, left_out_;

  // Of the one thread that resolves.
  std::vector<std::string> found_;
  std::set<std::string> members_;
  std::string trouble_;  // Told last; empty: it resolved.
  size_t told_left_out_ = 0;

  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // Last: it uses the others.
};

}  // namespace conclave::router
