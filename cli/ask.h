#pragma once

#include <memory>

#include "cli/options.h"
#include "cli/printer.h"
#include "conclave/v1/conclave.grpc.pb.h"

namespace conclave::cli {

// Exit codes of the program.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;  // The router answered with an error, or the stream broke.
inline constexpr int kExitUsage = 2;   // The command line or a file it names is wrong.
inline constexpr int kExitInterrupted = 130;  // Ctrl-C; the request was cancelled.

// Connects to options.router. Loopback and plain text; the channel connects on first use.
std::unique_ptr<v1::ConclaveService::Stub> Connect(const std::string& router);

// Sends the request, shows every event, and returns an exit code. Errors go to standard error with
// what to do about them. Ctrl-C cancels the request. Blocks until the stream has ended.
int Ask(const AskOptions& options, v1::ConclaveService::Stub& stub, Printer& printer);

// Prints the served models as a table and returns an exit code.
int ListModels(const std::string& router, v1::ConclaveService::Stub& stub);

}  // namespace conclave::cli
