#pragma once

#include <absl/status/status.h>

#include <string>

#include "cli/connection.h"
#include "cli/options.h"
#include "cli/printer.h"
#include "conclave/v1/conclave.pb.h"

namespace conclave::cli {

// What a request came to.
struct Asked {
  absl::Status status;       // OK: it is complete.
  bool interrupted = false;  // By Ctrl-C.
  std::string router;        // That was asked last.
  v1::Admitted admitted;     // Without id when it never was.
  v1::Receipt receipt;       // When it is complete.
};

// Sends the request to the routers, over as many streams as it takes, and shows every event. A
// stream that breaks is taken up again, there or at the next router, without a gap or anything
// twice (cli/reconnect.h), unless options.no_resume. Ctrl-C asks for the best answer so far and its
// receipt, and where none is to be had cancels. Blocks until the end. At most one at a time in a
// program, and before anything starts threads.
Asked AskRouters(const ServerOptions& options, v1::GenerateRequest request, const Caller& caller,
                 Printer& printer);

}  // namespace conclave::cli
