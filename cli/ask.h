#pragma once

#include "cli/options.h"
#include "cli/printer.h"

namespace conclave::cli {

// Asks as AskRouters does, keeps the record where options.receipt_file says, and returns an exit
// code. Errors go to standard error with what to do about them.
// REQUIRES: `request` is that of `options`.
int Ask(const AskOptions& options, const v1::GenerateRequest& request, Printer& printer);

}  // namespace conclave::cli
