#pragma once

#include <string>

#include "cli/options.h"
#include "cli/printer.h"

namespace conclave::cli {

// Sends the request to options.router, shows every event, and returns an exit code. A stream that
// breaks is taken up again, there or at the next router, without a gap or anything twice
// (cli/reconnect.h), unless options.no_resume. Errors go to standard error with what to do about
// them. Ctrl-C asks for the best answer so far and its receipt. Blocks until the end. Over plain
// text: for loopback, or behind something that encrypts.
// REQUIRES: `request` is that of `options`.
int Ask(const AskOptions& options, const v1::GenerateRequest& request, Printer& printer);

// Prints the models that the first of the routers serves as a table and returns an exit code.
int ListModels(const std::string& routers);

// Says on standard error what is wrong with the command line; returns kExitUsage.
int Usage(const absl::Status& status);

}  // namespace conclave::cli
