#include "worker/launch/flight_replay.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "common/status.h"
#include "worker/group/agreement.h"
#include "worker/group/plan_codec.h"
#include "worker/launch/flight_ledger.h"

namespace conclave::worker {
namespace {

absl::StatusOr<TimedPlan> Decode(const RingMessage& message) {
  absl::StatusOr<TimedPlan> timed = DecodePlan(message.bytes);
  if (!timed.ok()) return Annotate(timed.status(), fmt::format("plan {}", message.number));
  if (timed->plan.number != message.number) {
    return InvalidArgument("plan {} calls itself {}", message.number, timed->plan.number);
  }
  return timed;
}

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

// "0-7, 9": numbers in order, with ranges.
template <typename Number>
std::string Ranges(std::vector<Number> numbers) {
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t j = i;
    while (j + 1 < numbers.size() && numbers[j + 1] == numbers[j] + 1) ++j;
    text += fmt::format("{}{}", text.empty() ? "" : ", ", numbers[i]);
    if (j > i) text += fmt::format("-{}", numbers[j]);
    i = j + 1;
  }
  return text;
}

std::string DescribePlan(const TimedPlan& timed) {
  const StepPlan& plan = timed.plan;
  std::map<SlotChange::Kind, std::vector<SlotId>> changes;
  for (const SlotChange& change : plan.slots) changes[change.kind].push_back(change.slot);
  std::string text =
      fmt::format("step {} (may take {})", plan.number, absl::FormatDuration(timed.patience));
  const std::pair<SlotChange::Kind, const char*> kinds[] = {
      {SlotChange::Kind::kOpen, "opens"},
      {SlotChange::Kind::kAppend, "gives blocks to"},
      {SlotChange::Kind::kTruncate, "cuts"},
      {SlotChange::Kind::kClose, "closes"}};
  for (const auto& [kind, verb] : kinds) {
    const auto found = changes.find(kind);
    if (found != changes.end()) text += fmt::format(", {} slots {}", verb, Ranges(found->second));
  }
  if (!plan.copies.empty()) text += fmt::format(", copies {} blocks", plan.copies.size());
  std::map<SlotId, std::vector<int32_t>> rows;
  for (const Row& row : plan.rows) rows[row.slot].push_back(row.position);
  text += fmt::format(", {} rows", plan.rows.size());
  constexpr size_t kMostSlots = 8;
  size_t told = 0;
  for (const auto& [slot, positions] : rows) {
    if (told++ == kMostSlots) {
      text += fmt::format(" and {} more slots", rows.size() - kMostSlots);
      break;
    }
    text += fmt::format("{} slot {} at {}", told == 1 ? ":" : ",", slot, Ranges(positions));
  }
  return text + fmt::format("; {} samples", plan.samples.size());
}

std::string DescribeRank(size_t number, const RankFlight& rank) {
  std::string text = fmt::format("rank {}: ", number);
  if (!rank.ready) {
    text += "was loading";
  } else if (rank.step_begun != rank.step_done) {
    text += fmt::format("had ended step {} and was in step {}", rank.step_done, rank.step_begun);
  } else {
    text += fmt::format("had ended step {} and was in none", rank.step_done);
  }
  if (!rank.last_words.empty()) text += fmt::format("; it said: {}", rank.last_words);
  return text + "\n";
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
    ASSIGN_OR_RETURN(const TimedPlan timed, Decode(message));
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

std::string DescribeFlight(const Flight& flight) {
  std::string text = flight.account.substr(0, flight.account.find('\n')) + "\n";
  for (size_t rank = 0; rank < flight.ranks.size(); ++rank) {
    text += DescribeRank(rank, flight.ranks[rank]);
  }
  if (flight.plans.empty()) return text + "no plan was sent\n";
  text += fmt::format("plans {} to {} are kept\n", flight.plans.front().number,
                      flight.plans.back().number);
  // Those that some rank had not ended, and at least the last one.
  uint64_t ended = flight.plans.back().number - 1;
  for (const RankFlight& rank : flight.ranks) ended = std::min(ended, rank.step_done);
  constexpr uint64_t kMostTold = 4;
  if (const uint64_t last = flight.plans.back().number; last - ended > kMostTold) {
    ended = last - kMostTold;
  }
  for (const RingMessage& message : flight.plans) {
    if (message.number <= ended) continue;
    const absl::StatusOr<TimedPlan> timed = Decode(message);
    text += timed.ok() ? DescribePlan(*timed) : std::string(MessageOf(timed.status()));
    text += "\n";
  }
  return text;
}

std::string DescribeReplay(const FlightReplay& replay) {
  std::string text =
      fmt::format("ran {} of the plans {} to {}\n", replay.run, replay.first, replay.last);
  if (replay.inexact > 0) {
    text += fmt::format(
        "{} steps rest on what was computed before plan {}: they were run, their hashes not "
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
