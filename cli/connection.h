#pragma once

#include <absl/status/statusor.h>
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "cli/options.h"
#include "common/wire/pems.h"
#include "conclave/v1/conclave.grpc.pb.h"

namespace conclave::cli {

// Who calls, and how.
struct Caller {
  std::string router;  // The first of them.
  std::string key;     // Empty: none.
  Pems pems;           // All empty: plain text, for loopback, or behind something that encrypts.
  std::string tls_name;
};
// Reads the files that the options name; starts no thread. kInvalidArgument, kNotFound or
// kUnavailable for what is wrong with them.
absl::StatusOr<Caller> MakeCaller(const ServerOptions& options);

// A router's API. It connects on first use; a router that is gone without a word is noticed.
std::unique_ptr<v1::ConclaveService::Stub> Connect(const std::string& router, const Caller& caller);

void AddKey(const std::string& key, grpc::ClientContext& context);

// Says on standard error what is wrong with the command line; returns kExitUsage.
int Usage(const absl::Status& status);

// Says on standard error what went wrong with the router; returns kExitFailed.
int Report(const std::string& router, const absl::Status& status);

}  // namespace conclave::cli
