#pragma once

#include <absl/status/statusor.h>
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "cli/options.h"
#include "conclave/v1/conclave.grpc.pb.h"

namespace conclave::cli {

// A router's API over plain text: for loopback, or behind something that encrypts. It connects on
// first use; a router that is gone without a word is noticed.
std::unique_ptr<v1::ConclaveService::Stub> Connect(const std::string& router);

void AddKey(const std::string& key, grpc::ClientContext& context);

// The key that options.api_key_file holds: see ReadKey. Empty without a file.
absl::StatusOr<std::string> KeyOf(const ServerOptions& options);

// For one call to the first of the routers: its address and the key. kInvalidArgument or kNotFound
// for what is wrong with the options.
struct Caller {
  std::string router, key;
};
absl::StatusOr<Caller> MakeCaller(const ServerOptions& options);

// Says on standard error what is wrong with the command line; returns kExitUsage.
int Usage(const absl::Status& status);

// Says on standard error what went wrong with the router; returns kExitFailed.
int Report(const std::string& router, const absl::Status& status);

}  // namespace conclave::cli
