#include "worker/launch/flight_text.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "common/agent_names.h"
#include "common/status.h"
#include "worker/group/plan_codec.h"

namespace conclave::worker {
namespace {

constexpr uint64_t kMostSteps = 4;  // That are told.
constexpr size_t kMostGroups = 16;  // Of agents of one step.

// Whose slots are, as far as the record tells.
class Slots {
 public:
  struct Owner {
    uint64_t seed = 0;
    AgentId agent{};
    int prompt = 0;  // Its length.
  };

  void Take(const StepPlan& plan) {
    for (const SlotChange& change : plan.slots) {
      if (change.kind == SlotChange::Kind::kOpen) {
        owners_[change.slot] = {change.seed, change.agent, change.position};
      }
    }
  }
  // Null: it was opened before the record.
  const Owner* Of(SlotId slot) const {
    const auto found = owners_.find(slot);
    return found == owners_.end() ? nullptr : &found->second;
  }

 private:
  std::map<SlotId, Owner> owners_;  // As many as were ever opened at a time.
};

// "opens slots 0-7, closes slots 8, copies 7 blocks": what a plan does before its rows.
std::string ChangesText(const StepPlan& plan) {
  const std::pair<SlotChange::Kind, const char*> kinds[] = {
      {SlotChange::Kind::kOpen, "opens"},
      {SlotChange::Kind::kAppend, "gives blocks to"},
      {SlotChange::Kind::kTruncate, "cuts"},
      {SlotChange::Kind::kClose, "closes"}};
  std::string text;
  for (const auto& [kind, verb] : kinds) {
    std::vector<int64_t> slots;
    for (const SlotChange& change : plan.slots) {
      if (change.kind == kind) slots.push_back(change.slot);
    }
    if (!slots.empty()) text += fmt::format(", {} slots {}", verb, Ranges(std::move(slots)));
  }
  if (!plan.copies.empty()) text += fmt::format(", copies {} blocks", plan.copies.size());
  return text;
}

// The rows of one slot in one step.
struct Span {
  int64_t first = 0, last = 0, rows = 0;
};

// Agents that do the same are told together: seed, whether it is the prompt, first and last token.
using Doing = std::tuple<uint64_t, bool, int64_t, int64_t>;

std::string DoingText(const Doing& doing, std::vector<AgentId> agents) {
  const auto& [seed, in_prompt, first, last] = doing;
  const std::string tokens =
      first == last ? fmt::format("token {}", first) : fmt::format("tokens {}-{}", first, last);
  return fmt::format("  seed {}: {} {} {}\n", seed, AgentNames(std::move(agents)),
                     in_prompt ? "in the prompt, at" : "at", tokens);
}

std::string RowsText(const StepPlan& plan, const Slots& slots) {
  std::map<SlotId, Span> spans;
  for (const Row& row : plan.rows) {
    Span& span = spans.try_emplace(row.slot, Span{row.position, row.position, 0}).first->second;
    span.last = row.position;
    ++span.rows;
  }
  std::map<Doing, std::vector<AgentId>> doings;
  std::vector<int64_t> unknown;
  int64_t unknown_rows = 0;
  for (const auto& [slot, span] : spans) {
    const Slots::Owner* owner = slots.Of(slot);
    if (owner == nullptr) {
      unknown.push_back(slot);
      unknown_rows += span.rows;
      continue;
    }
    const bool in_prompt = span.last < owner->prompt;
    const int64_t before = in_prompt ? 0 : owner->prompt;
    const int64_t first = std::max<int64_t>(span.first - before, 0) + 1;
    doings[{owner->seed, in_prompt, first, span.last - before + 1}].push_back(owner->agent);
  }
  std::string text;
  size_t told = 0;
  for (auto& [doing, agents] : doings) {
    if (told++ == kMostGroups) {
      text += fmt::format("  and {} more\n", doings.size() - kMostGroups);
      break;
    }
    text += DoingText(doing, std::move(agents));
  }
  if (!unknown.empty()) {
    text += fmt::format("  slots {}, opened before the record: {} rows\n",
                        Ranges(std::move(unknown)), unknown_rows);
  }
  return text;
}

// "ended by rank 0, not by rank 1".
std::string EndedText(const Flight& flight, uint64_t step) {
  std::vector<int64_t> ended, not_ended;
  for (size_t rank = 0; rank < flight.ranks.size(); ++rank) {
    const bool done = flight.ranks[rank].step_done >= step;
    (done ? ended : not_ended).push_back(static_cast<int64_t>(rank));
  }
  const auto ranks = [](const std::vector<int64_t>& numbers) {
    return fmt::format("rank{} {}", numbers.size() == 1 ? "" : "s", Ranges(numbers));
  };
  if (flight.ranks.empty()) return "";
  if (ended.empty()) return "; no rank had ended it";
  if (not_ended.empty()) return "; every rank had ended it";
  return fmt::format("; {} had ended it, {} had not", ranks(ended), ranks(not_ended));
}

std::string StepText(const Flight& flight, const TimedPlan& timed, const Slots& slots) {
  const StepPlan& plan = timed.plan;
  return fmt::format("step {} (may take {}){}, {} rows, {} samples{}\n", plan.number,
                     absl::FormatDuration(timed.patience), ChangesText(plan), plan.rows.size(),
                     plan.samples.size(), EndedText(flight, plan.number)) +
         RowsText(plan, slots);
}

std::string RankText(size_t number, const RankFlight& rank) {
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

// The step up to which every rank had ended all; later ones are told, and at least the last.
uint64_t LastSettledStep(const Flight& flight) {
  const uint64_t last = flight.plans.back().number;
  uint64_t settled = last - 1;
  for (const RankFlight& rank : flight.ranks) settled = std::min(settled, rank.step_done);
  return last - settled > kMostSteps ? last - kMostSteps : settled;
}

}  // namespace

std::string DescribeFlight(const Flight& flight) {
  std::string text = flight.account.substr(0, flight.account.find('\n')) + "\n";
  if (!flight.identity.empty()) text += fmt::format("the group: {}\n", flight.identity);
  for (size_t rank = 0; rank < flight.ranks.size(); ++rank) {
    text += RankText(rank, flight.ranks[rank]);
  }
  if (flight.plans.empty()) return text + "no step was begun\n";
  text += fmt::format("steps {} to {} are kept\n", flight.plans.front().number,
                      flight.plans.back().number);
  const uint64_t settled = LastSettledStep(flight);
  Slots slots;
  for (const RingMessage& message : flight.plans) {
    const absl::StatusOr<TimedPlan> timed = DecodeRecorded(message);
    if (timed.ok()) slots.Take(timed->plan);
    if (message.number <= settled) continue;
    text += timed.ok() ? StepText(flight, *timed, slots)
                       : std::string(MessageOf(timed.status())) + "\n";
  }
  return text;
}

}  // namespace conclave::worker
