#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "worker/launch/judge.h"

// What the launchers of a group's hosts tell each other. Both sides send whole states: only the
// newest counts, so none is ever missed.
namespace conclave::worker {

// One incarnation of a group. The nonce is drawn for each: a launcher that was started anew counts
// from 1 again, and what is left of the epoch 1 before must not meet this one.
struct EpochName {
  uint64_t number = 0, nonce = 0;

  explicit operator bool() const { return number != 0; }
  bool operator==(const EpochName&) const = default;
};

// One rank of another host.
struct RankReport {
  RankSight sight = {};
  std::string identity = {};  // What it computes with: see IdentityOf. Empty until it is known.
  std::string address =
      {};  // For the ranks' collective. Empty until it is known, and when it is ready.
};

// Of a host other than host 0.
struct HostReport {
  uint64_t beat = 0;     // Of its launcher.
  EpochName epoch = {};  // Whose ranks it runs.
  std::vector<RankReport> ranks =
      {};                  // Its own, in order; none without an epoch, and with a fault.
  std::string fault = {};  // Why it could not begin the epoch.
  bool leaving = false;    // Its launcher was told to end.
};

// What host 0's launcher wants of all others.
struct HostOrders {
  uint64_t beat = 0;
  EpochName epoch = {};        // Whose ranks to run; none: kill those that run.
  bool ready = false;          // The group serves.
  std::string last_loss = {};  // Why the epoch before ended.
  std::vector<std::string> addresses =
      {};                          // Of all ranks; empty until all are known, and when ready.
  std::string collective_id = {};  // Empty until it is known.
  int plan_port = 0;               // On host 0. 0 until it is known.

  bool operator==(const HostOrders&) const = default;
};

// How one host of several stands: ranks are dealt out evenly, in order.
struct HostPlace {
  int hosts = 1;
  int host = 0;

  int ranks_of_each(int tp) const { return tp / hosts; }
  int first_rank(int tp) const { return host * ranks_of_each(tp); }
};

}  // namespace conclave::worker
