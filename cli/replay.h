#pragma once

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "cli/options.h"
#include "cli/printer.h"
#include "conclave/v1/record.pb.h"

namespace conclave::cli {

// What `conclave replay` was told.
struct ReplayOptions : ServerOptions {
  std::string file;                    // A record that --receipt wrote, or a flight.
  bool quiet = false, json = false;    // Of a record: only what came of it; as JSON.
  std::string config;                  // Of a flight: the config of its group. Empty: words only.
  std::vector<std::string> overrides;  // Of a flight: as --set of the worker.
};

// The record's question as it is asked again: the same seed, time of day, fingerprint and
// decisions. kFailedPrecondition: the record has no question.
absl::StatusOr<v1::GenerateRequest> RequestAgain(const v1::Record& record);

// Runs the file again. A record: by a router, shown by `printer`; what came of it goes to `out`. A
// flight: what its group did last goes to `out`, in words; with a config, conclave-worker takes
// this process's place and runs it. Returns an exit code.
int Replay(const ReplayOptions& options, Printer& printer, std::ostream& out);

}  // namespace conclave::cli
