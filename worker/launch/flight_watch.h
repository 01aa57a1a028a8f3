#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <functional>

#include "worker/group/rank_step.h"
#include "worker/launch/flight_file.h"
#include "worker/step.h"

namespace conclave::worker {

// Who runs a flight again: all ranks at once, fresh from their start.
struct FlightGroup {
  GroupShape shape;
  RankStep step;
};

// How a flight that was run again ended, as a program's exit code.
enum class FlightEnd : int {
  kEqual = 0,     // All plans ran, hashes were compared, and none differs.
  kUnusable = 1,  // The record or the group can't be used.
  kFound = 3,     // A step differs, fails, kills its rank or never ends.
  kNothing = 4,   // All plans ran, and no hash could be compared: nothing is known.
};

// Runs `flight` again in a child process, so that a plan that kills its rank, or takes longer than
// its own deadline (counted in turns of the watcher), is found and named. `make_group` is called in
// the child and may take `load_patience`. What came of it is written to standard output, what
// stopped it to standard error. Call it before any thread is started.
FlightEnd WatchReplay(const Flight& flight,
                      const std::function<absl::StatusOr<FlightGroup>()>& make_group,
                      absl::Duration load_patience);

}  // namespace conclave::worker
