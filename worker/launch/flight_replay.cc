#include "worker/launch/flight_replay.h"

#include "common/status.h"
#include "worker/group/agreement.h"
#include "worker/group/plan_codec.h"
#include "worker/launch/flight_ledger.h"

namespace conclave::worker {
namespace {

absl::Status CheckFlight(const Flight& flight, const GroupShape& shape) {
  if (flight.ranks.empty()) {
    return FailedPrecondition("the record is of a version that kept no hashes");
  }
  if (flight.plans.empty()) return FailedPrecondition("the group had no plan: it ran no step");
  if (flight.identity != IdentityOf(shape)) {
    return FailedPrecondition("the flight is of a group with {}; this one has {}", flight.identity,
                              IdentityOf(shape));
  }
  for (size_t i = 1; i < flight.plans.size(); ++i) {
    if (flight.plans[i].number != flight.plans[i - 1].number + 1) {
      return InvalidArgument("plan {} follows plan {}", flight.plans[i].number,
                             flight.plans[i - 1].number);
    }
  }
  return absl::OkStatus();
}

void Compare(const Flight& flight, uint64_t step, uint64_t now, FlightReplay& replay) {
  bool reported = false, differs = false;
  for (size_t rank = 0; rank < flight.ranks.size(); ++rank) {
    const std::optional<uint64_t> then = flight.ranks[rank].HashOf(step);
    if (!then.has_value()) continue;
    reported = true;
    if (*then == now) continue;
    differs = true;
    if (!replay.difference.has_value()) {
      replay.difference = {.step = step, .rank = static_cast<int>(rank), .then = *then, .now = now};
    }
  }
  if (!reported) return;
  ++replay.compared;
  replay.different += differs ? 1 : 0;
  if (!replay.first_compared.has_value()) replay.first_compared = step;
  replay.last_compared = step;
}

}  // namespace

absl::StatusOr<FlightReplay> ReplayFlight(
    const Flight& flight, const GroupShape& shape, const RankStep& step,
    const std::function<void(uint64_t number, absl::Duration patience)>& on_begin) {
  RETURN_IF_ERROR(CheckFlight(flight, shape));
  FlightReplay replay;
  replay.first = flight.plans.front().number;
  replay.last = flight.plans.back().number;
  FlightLedger ledger(shape);
  for (const RingMessage& message : flight.plans) {
    ASSIGN_OR_RETURN(const TimedPlan timed, DecodeRecorded(message));
    FlightLedger::Entry entry = ledger.Take(timed.plan);
    entry.plan.number = static_cast<uint64_t>(replay.run) + 1;
    if (on_begin) on_begin(message.number, timed.patience);
    absl::StatusOr<StepResult> result = step(entry.plan);
    if (!result.ok()) {
      replay.failed_step = message.number;
      replay.failure = result.status();
      return replay;
    }
    ++replay.run;
    if (!entry.exact()) {
      ++replay.inexact;
      continue;
    }
    result->number = message.number;
    Compare(flight, message.number, AgreementHash(timed.plan, *result), replay);
  }
  return replay;
}

std::string DescribeReplay(const FlightReplay& replay) {
  std::string text =
      fmt::format("ran {} of the steps {} to {}\n", replay.run, replay.first, replay.last);
  if (replay.inexact > 0) {
    text += fmt::format(
        "{} steps rest on what was computed before step {}: they were run, their hashes not "
        "compared\n",
        replay.inexact, replay.first);
  }
  if (replay.compared == 0) {
    text += "no step's hash could be compared\n";
  } else {
    text += fmt::format("compared the hashes of {} steps, {} to {}: {} equal, {} different\n",
                        replay.compared, *replay.first_compared, *replay.last_compared,
                        replay.compared - replay.different, replay.different);
  }
  if (replay.difference.has_value()) {
    text += fmt::format("step {} differs: rank {} reported {:016x}, now it is {:016x}\n",
                        replay.difference->step, replay.difference->rank, replay.difference->then,
                        replay.difference->now);
  }
  if (replay.failed_step.has_value()) {
    text += fmt::format("step {} fails: {}\n", *replay.failed_step, MessageOf(replay.failure));
  }
  return text;
}

}  // namespace conclave::worker
