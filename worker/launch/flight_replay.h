#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "worker/group/rank_step.h"
#include "worker/launch/flight_file.h"
#include "worker/step.h"

namespace conclave::worker {

// What came of a flight that was run again.
struct FlightReplay {
  uint64_t first = 0, last = 0;  // Numbers of the record's plans.
  int64_t run = 0;
  int64_t compared = 0;  // Steps whose hash is known, from ranks that reported one.
  // Steps with a sample that rests on what was before the record: run, not compared.
  int64_t inexact = 0;
  std::optional<uint64_t> first_compared, last_compared;

  // Where a rank reported something else than came out now. The first one.
  struct Difference {
    uint64_t step = 0;
    int rank = 0;
    uint64_t then = 0, now = 0;
  };
  int64_t different = 0;
  std::optional<Difference> difference;

  // The step that could not be run, and why. Later ones were not tried.
  std::optional<uint64_t> failed_step;
  absl::Status failure;

  bool ok() const { return !failed_step.has_value() && different == 0; }
};

// Runs the plans of `flight` in order by `step`, which is one rank, or all ranks at once, fresh
// from its start: plans are numbered from 1 for it, whatever their own numbers are. `on_begin` is
// called before each with its own number and patience: it is what hangs or dies, if anything does.
// kInvalidArgument: the record can't be read; kFailedPrecondition: it is not of such a group, or
// holds no plan.
absl::StatusOr<FlightReplay> ReplayFlight(
    const Flight& flight, const GroupShape& shape, const RankStep& step,
    const std::function<void(uint64_t number, absl::Duration patience)>& on_begin = {});

// In words, for people, some lines.
std::string DescribeReplay(const FlightReplay& replay);

}  // namespace conclave::worker
