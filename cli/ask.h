#pragma once

#include <string>

#include "cli/options.h"
#include "cli/printer.h"

namespace conclave::cli {

// Sends the request to options.router, shows every event, and returns an exit code. Errors go to
// standard error with what to do about them. Ctrl-C cancels the request. Blocks until the stream
// has ended. Over plain text: for loopback, or behind something that encrypts.
// REQUIRES: `request` is that of `options`.
int Ask(const AskOptions& options, const v1::GenerateRequest& request, Printer& printer);

// Prints the served models as a table and returns an exit code.
int ListModels(const std::string& router);

// Says on standard error what is wrong with the command line; returns kExitUsage.
int Usage(const absl::Status& status);

}  // namespace conclave::cli
