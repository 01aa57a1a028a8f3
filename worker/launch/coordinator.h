#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/status/status.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include <memory>
#include <string>
#include <vector>

#include "common/wire/credentials.h"
#include "worker/group/server_bounds.h"
#include "worker/launch/host_table.h"

namespace conclave::worker {

// Where the other hosts' launchers join host 0's: the server of GroupService.Join. A host that does
// what it must not is put out. Two threads for each host that is here; OtherHosts is called on the
// launcher's.
class Coordinator : public OtherHosts {
 public:
  // Who does not say within `hello_patience` which host it is, is put out.
  // REQUIRES: hosts > 1, tp a multiple of it.
  Coordinator(int tp, int hosts, absl::Duration hello_patience = kHelloPatience);
  // All memberships end.
  ~Coordinator() override;
  Coordinator(const Coordinator&) = delete;
  Coordinator& operator=(const Coordinator&) = delete;

  // Listens on HOST:PORT; port 0: any. kUnavailable: it cannot be bound. Errors of credentials as
  // in common/wire/credentials.h. Once.
  absl::Status Start(const std::string& listen, const TlsOptions& tls);
  int port() const { return port_; }

  std::vector<Member> Look() override;
  void Order(const HostOrders& orders) override;
  void Drop(int host, const std::string& why) override;

 private:
  class Service;

  const std::unique_ptr<Service> service_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

}  // namespace conclave::worker
