#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <memory>
#include <string>
#include <vector>

#include "worker/collective/collective.h"

namespace conclave::worker {

// No address of a rank is longer, in bytes.
inline constexpr size_t kMaxGlooAddressBytes = 4096;
// No group of theirs has more ranks.
inline constexpr int kMaxGlooRanks = 64;

struct GlooOptions {
  int rank = 0, size = 2;  // Of those that join, in the order in which they are summed.
  int64_t epoch = 0;       // Of the group: ranks of different epochs refuse each other.
  // This host as its peers reach it: an IP address or a name of one of its interfaces, and no
  // wildcard. Ports are the system's choice.
  std::string host;
  // For all peers to connect, and then for any one read or write. At least 1 ms.
  absl::Duration patience = absl::Minutes(1);
  // Waits spin until a peer's bytes are there. For ranks that have a core each.
  bool busy_poll = false;
};

// A rank on the CPU that meets its peers over TCP, before it knows where they are. One thread.
//
// Bytes are neither encrypted nor signed. Until it has joined, each peer has a port here, and the
// first who connects takes it: a stranger makes Join fail, and one who speaks the library's
// language can end the process, or worse. So the hosts need a network that is theirs alone. A rank
// that has joined listens nowhere.
class GlooEndpoint {
 public:
  // Listens. kInvalidArgument when `options.host` is no address of this host; SIGPIPE is ignored by
  // this process from now on.
  static absl::StatusOr<std::unique_ptr<GlooEndpoint>> Open(const GlooOptions& options);
  ~GlooEndpoint();

  // What peers need to find this rank: opaque, printable, at most kMaxGlooAddressBytes.
  const std::string& address() const { return address_; }

  // Connects to all peers and sees that each is who it should be. `addresses`: of all ranks in
  // order of rank, this one's among them, as a network brought them. kInvalidArgument says which
  // one is no address, or of another epoch, rank or size; kDeadlineExceeded, which peer did not
  // come; kUnavailable, which was lost. REQUIRES: called once.
  //
  // The collective that it makes, for one thread, outlives this. It fails within `patience` of a
  // peer's silence, and at once when a peer's end of the connection is gone; it then closes all of
  // its own, so that the others fail too. Parts are gathered and added in rank order; more than two
  // ranks share large sums out.
  absl::StatusOr<std::unique_ptr<Collective>> Join(const std::vector<std::string>& addresses);

 private:
  struct Links;
  class Ranks;
  GlooEndpoint(const GlooOptions& options, std::unique_ptr<Links> links, std::string address);

  const GlooOptions options_;
  std::unique_ptr<Links> links_;
  const std::string address_;
};

}  // namespace conclave::worker
