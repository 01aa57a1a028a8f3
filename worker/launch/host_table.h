#pragma once

#include <absl/time/time.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "worker/group/group_memory.h"
#include "worker/group/patience.h"
#include "worker/launch/host_ranks.h"
#include "worker/launch/host_state.h"
#include "worker/launch/judge.h"

namespace conclave::worker {

// The other hosts of a group, as they are heard of on host 0. One thread; nothing here waits.
class OtherHosts {
 public:
  struct Member {
    bool here = false;
    HostReport report = {};  // The last one.
    std::string left = {};   // Why it is not here any more; empty: it never was.
  };

  virtual ~OtherHosts() = default;
  // From host 1 on.
  virtual std::vector<Member> Look() = 0;
  // What all are told from now on.
  virtual void Order(const HostOrders& orders) = 0;
  // Whoever is there as this host is none any more, and has to join anew.
  virtual void Drop(int host, const std::string& why) = 0;
};

struct HostTableOptions {
  int tp = 2;
  int hosts = 2;
  absl::Duration tick = absl::Milliseconds(50);
  absl::Duration silence = absl::Seconds(1);  // A host's, counted in ticks as a rank's is.
  std::function<void(std::string_view line)> log = {};
};

// What host 0's launcher knows of the others, from turn to turn. `others` must outlive it.
class HostTable {
 public:
  HostTable(OtherHosts& others, HostTableOptions options);

  // Looks at all; drops those that are silent. `ticked`: one tick has passed.
  void Turn(bool ticked);

  // All are here, none is about to leave, and none runs a rank.
  bool idle() const;
  // Those that are not here, or about to leave: "1, 3". May be empty though some are not idle.
  std::string WhoIsMissing() const;
  // The first that is told to end, if any.
  std::optional<int> leaving() const;

  // Why `epoch` is lost, when a host has left, could not begin it, or ended it.
  std::optional<Loss> FindLoss(const EpochName& epoch);
  // The ranks of hosts 1 and up, as they are in `epoch`, in order; also written into their cells.
  // Of a host that has not begun it yet they have never beaten.
  std::vector<RankSight> Ranks(const EpochName& epoch, GroupMemory& memory) const;

  // Tells all others which ranks are to run, or (null) that none are; why the epoch before ended;
  // and whether the group serves.
  void Order(const HostRanks* ranks, const std::string& last_loss, bool ready);

 private:
  struct Host {
    OtherHosts::Member member;
    Stillness beat;
    EpochName ran;  // What it reported last while it was here.
  };
  int ranks_of_each() const { return options_.tp / options_.hosts; }

  OtherHosts& others_;
  const HostTableOptions options_;
  std::vector<Host> hosts_;  // From host 1 on.
  uint64_t beat_ = 0;
};

}  // namespace conclave::worker
