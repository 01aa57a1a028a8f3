#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/security/credentials.h>

#include <memory>
#include <string>

#include "common/timer_thread.h"
#include "conclave/v1/worker.grpc.pb.h"
#include "router/fleet/load_watch.h"
#include "router/fleet/worker_client.h"

namespace conclave::router {

// How a router speaks to a group.
struct WorkerChannelOptions {
  absl::Duration keepalive = absl::Seconds(
      5);  // A silent connection is asked after this, and given up after as long again.
  int max_message_bytes = 64 << 20;
  WatchBackoff backoff;
  // The host whose certificate is expected, and the HTTP/2 authority. Empty: the address's.
  std::string authority;
};

// A channel to `address` ("host:port") that notices a dead peer.
std::shared_ptr<grpc::Channel> MakeWorkerChannel(
    const std::string& address, const std::shared_ptr<grpc::ChannelCredentials>& credentials,
    const WorkerChannelOptions& options);

// The group behind a channel, by worker.proto. `timers` must outlive it; it must outlive what it
// made.
class GrpcWorkerClient : public WorkerClient {
 public:
  GrpcWorkerClient(std::shared_ptr<grpc::Channel> channel, TimerThread& timers,
                   WatchBackoff backoff);

  std::unique_ptr<FamilyRun> Open(FamilyOpening opening,
                                  std::shared_ptr<FamilyEvents> events) override;
  std::unique_ptr<GroupWatch> Watch(GroupEvents& events) override;
  void Count(PromptQuestion question, std::function<void(absl::StatusOr<int>)> done) override;
  void Render(PromptQuestion question, std::function<void(absl::StatusOr<Prompt>)> done) override;

 private:
  const std::shared_ptr<grpc::Channel> channel_;  // Shared with watches' last calls.
  const std::unique_ptr<v1::WorkerService::Stub> stub_;
  TimerThread& timers_;
  const WatchBackoff backoff_;
};

}  // namespace conclave::router
