#pragma once

#include <string>

#include "worker/worker_config.h"

namespace conclave::worker {

// `conclave-worker --replay-flight FILE --config ...`: says what a lost group did last, then runs
// its recorded plans again on a group of threads with the configured model, and compares each
// step's hash with those that the ranks reported. The work is done by a child process, so that a
// plan that kills its rank, or never ends, is found and named. Writes to standard output, what
// stopped it to standard error. Before any thread is started.
//
// Returns the exit code: 0 all plans ran and no hash differs; 1 the file or the model can't be
// used; 3 a step differs, fails, kills or hangs.
int ReplayFlightFile(const std::string& path, const WorkerConfig& config);

}  // namespace conclave::worker
