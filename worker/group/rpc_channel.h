#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include <cstdint>
#include <memory>
#include <set>
#include <string>

#include "common/wire/credentials.h"
#include "worker/group/control_channel.h"
#include "worker/group/group_memory.h"

namespace conclave::worker {

// The leader's end of the channel to followers on other hosts. For each it stands in as a follower
// of the ring in the group's memory: it reads plans there and sends them on, and writes the marks
// that come back where a local follower writes its own. So the leader's ShmLeaderChannel reaches
// all followers, with the same patience and the same flight. Two threads for each.
class PlanServer {
 public:
  // Ranks from `first_remote` on may ask. `memory` is the leader's, and must outlive this.
  PlanServer(GroupMemory& memory, int first_remote);
  // Closes the channel, tells the followers, and waits up to 2 s for them.
  ~PlanServer();
  PlanServer(const PlanServer&) = delete;
  PlanServer& operator=(const PlanServer&) = delete;

  // Listens on HOST:PORT (port 0: any) and puts the port into the memory's plan_port. kUnavailable:
  // the address cannot be bound. Errors of credentials as in common/wire/credentials.h. Once.
  absl::Status Start(const std::string& listen, const TlsOptions& tls);
  int port() const { return port_; }

 private:
  class Service;

  GroupMemory& memory_;
  const std::unique_ptr<Service> service_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

struct RpcFollowerOptions {
  std::string leader = {};  // HOST:PORT of the PlanServer.
  TlsOptions tls = {};
  uint64_t epoch = 1, nonce = 0;  // Of this follower's memory.
  int rank = 1;
  absl::Duration connect_patience = absl::Minutes(1);
};

// The channel as a follower on another host sees it. One thread. A leader that goes silent ends no
// wait here: the launcher ends the process.
class RpcFollowerChannel : public FollowerChannel {
 public:
  // kDeadlineExceeded: nobody listens there. Whether the leader takes it shows at the first
  // Receive.
  static absl::StatusOr<std::unique_ptr<RpcFollowerChannel>> Connect(
      const RpcFollowerOptions& options);
  ~RpcFollowerChannel() override;

  // Besides what the interface says: kUnavailable when the leader is lost; kFailedPrecondition when
  // it is of another epoch, or this is no follower of its; kAlreadyExists when this rank came
  // before.
  absl::StatusOr<std::string> Receive() override;
  void Report(const DoneMark& mark) override;

 private:
  struct Stream;
  explicit RpcFollowerChannel(std::unique_ptr<Stream> stream);

  const std::unique_ptr<Stream> stream_;
};

}  // namespace conclave::worker
