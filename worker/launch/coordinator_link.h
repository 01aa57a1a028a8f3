#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <memory>
#include <optional>
#include <string>

#include "common/wire/credentials.h"
#include "worker/launch/host_state.h"
#include "worker/launch/joiner.h"

namespace conclave::worker {

struct CoordinatorLinkOptions {
  std::string coordinator = {};  // HOST:PORT of host 0's Coordinator.
  TlsOptions tls = {};
  int tp = 2;
  HostPlace place = {};
};

// The way to host 0's Coordinator: the client of GroupService.Join, one connection for each
// membership, with two threads.
class CoordinatorLink : public HostLink {
 public:
  // Errors of credentials as in common/wire/credentials.h. Nothing is connected yet.
  static absl::StatusOr<std::unique_ptr<CoordinatorLink>> Make(CoordinatorLinkOptions options);
  ~CoordinatorLink() override;

  void Join() override;
  void Leave() override;
  std::optional<absl::Status> End() override;
  std::optional<HostOrders> Orders() override;
  void Report(const HostReport& report) override;

 private:
  class Membership;
  CoordinatorLink(CoordinatorLinkOptions options,
                  std::shared_ptr<grpc::ChannelCredentials> credentials);

  const CoordinatorLinkOptions options_;
  const std::shared_ptr<grpc::ChannelCredentials> credentials_;
  std::unique_ptr<Membership> membership_;
};

}  // namespace conclave::worker
