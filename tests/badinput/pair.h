#pragma once

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/v1/conclave.grpc.pb.h"
#include "tests/integration/cluster.h"

namespace conclave {

// A real router and a real worker, and what they answered to one good question before anything bad
// came.
class Pair {
 public:
  explicit Pair(const std::vector<std::string>& router_settings = {});

  // The good question is answered with the same bytes, nothing runs any more, and nobody died.
  void ExpectUnharmed();
  // SIGTERM ends both in order.
  void ExpectGoodEnd();

  Cluster& cluster() { return cluster_; }
  const std::string& address() const { return address_; }
  grpc::Channel& channel() { return *channel_; }

  // A call of /conclave.v1.ConclaveService/METHOD with these bytes as its message.
  grpc::Status Call(const std::string& method, std::string_view message,
                    const std::function<void(grpc::ClientContext&)>& change = {});

 private:
  grpc::Status Ask(v1::Receipt& receipt);
  bool IsZero(const std::string& program, const std::string& gauge);

  Cluster cluster_;
  std::string address_;
  std::shared_ptr<grpc::Channel> channel_;
  v1::Receipt first_;
};

// The good question: two agents.
v1::GenerateRequest GoodRequest();

}  // namespace conclave
