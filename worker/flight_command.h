#pragma once

#include <string>

#include "worker/worker_config.h"

namespace conclave::worker {

// `conclave-worker --replay-flight FILE --config ...`: says what a lost group did last, then runs
// its recorded plans again on a group of threads with the configured model, and compares each
// step's hash with those that the ranks reported. Returns the exit code: see FlightEnd. Before any
// thread is started.
int ReplayFlightFile(const std::string& path, const WorkerConfig& config);

}  // namespace conclave::worker
