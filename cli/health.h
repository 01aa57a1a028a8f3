#pragma once

#include <ostream>
#include <string>

namespace conclave::cli {

// What `conclave health` was told.
struct HealthOptions {
  std::string address;  // HOST:PORT of a router's or worker's health.listen.
  std::string service = "readiness";
  double timeout_seconds = 3;
};

// Asks the standard gRPC health service at `address`, as a probe does, over a connection of its
// own. The answer goes to `out`, and why there is none to `errors`: one line each. Returns an exit
// code: kExitOk when what was asked for serves, kExitFailed when it does not or nothing answers
// within the timeout, kExitUsage for options that make no sense.
int AskHealth(const HealthOptions& options, std::ostream& out, std::ostream& errors);

}  // namespace conclave::cli
