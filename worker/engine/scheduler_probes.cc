#include <algorithm>
#include <utility>

#include "common/check.h"
#include "worker/engine/plan_builder.h"
#include "worker/engine/scheduler.h"

// Copies of agents that are asked for their answer so far.
namespace conclave::worker {

// Makes the copy that is due. One at a time: the agent waits before a second one could be.
void Scheduler::Ask(Sequence& agent) {
  if (agent.probe != 0) return;
  const std::optional<int> at = agent.tokens.TakeDue();
  if (!at.has_value()) return;
  SequenceOrigin origin = agent.origin;
  origin.serial = ++last_serial_;
  const auto it =
      live_.emplace(origin.serial, std::make_unique<Sequence>(origin, agent, *at, cache_)).first;
  Sequence& copy = *it->second;
  agent.probe = origin.serial;
  ++copies_;
  copy.tokens.Release(copy.told);
  if (copy.tokens.ended()) return Answer(it);
  // At once, if there is room. Not while a gang enters: its room is promised.
  if (agent.running) BringBack();
}

// Takes what its agent has computed: blocks of the tree, and a copy of the one that is being
// filled.
void Scheduler::Share(Sequence& copy) {
  Sequence& agent = *live_.at(copy.asked);
  if (agent.running) agent.PublishFull(cache_, last_plan_);
  const int common = copy.tokens.prompt_length() + copy.at;
  const int full = common / kBlockTokens;
  while (copy.table.size() < full && cache_.Match(copy.NameOf(copy.table.size()), copy.table)) {
    ++copy.published;
    copy.computed += kBlockTokens;
  }
  const bool filling = agent.running && !agent.copy.has_value() && copy.table.size() == full &&
                       agent.table.size() > full;
  const int part = filling ? std::min(agent.computed, common) - full * kBlockTokens : 0;
  if (part > 0 && cache_.Grow(1, copy.table)) {
    copy.copy.emplace(Sequence::PendingCopy{BlockPin(cache_, agent.table[full]), copy.table.back(),
                                            part, last_plan_});
    copy.computed += part;
  }
  copy.high_water = std::max(copy.high_water, copy.computed);
  load_.prefix_hit_tokens += copy.computed;
}

// A copy has ended. Its agent may have waited for that.
void Scheduler::Answer(Live::iterator it) {
  Sequence& copy = *it->second;
  const auto asked = live_.find(copy.asked);
  Sequence& agent = *asked->second;
  progress_.push_back({.family = agent.origin.family,
                       .agent = agent.id,
                       .first = copy.at,
                       .tokens = std::move(copy.told),
                       .end = std::nullopt,
                       .of_copy = true});
  ++load_.probes_answered;
  RemoveCopy(it);
  const int first = agent.tokens.count();
  std::vector<TokenEvent> forced;
  agent.tokens.Answered();
  agent.tokens.Release(forced);
  Report(agent, first, std::move(forced));
  Settle(asked);
}

void Scheduler::RemoveCopy(Live::iterator it) {
  Sequence& copy = *it->second;
  const AgentEnd& end = copy.tokens.end();
  copy.origin.counters->probed += end.sampled + end.forced;
  load_.probe_tokens += end.sampled + end.forced;
  load_.overrun += copy.valid_in_flight();
  PlanBuilder::TakeBack(copy, cache_, slots_, last_plan_);
  live_.at(copy.asked)->probe = 0;
  --copies_;
  live_.erase(it);
}

// Whose slot a copy may have when all are taken: its agent's, when that waits for it. Null: nobody
// gives one away.
Sequence* Scheduler::SlotFor(const Sequence& sequence) {
  if (!sequence.is_copy()) return nullptr;
  Sequence* const agent = live_.at(sequence.asked).get();
  return agent->running && agent->in_flight == 0 && !agent->can_run() ? agent : nullptr;
}

// Whoever is accepted has a slot, and if a copy must go.
void Scheduler::KeepSlots() {
  std::vector<Sequence*> order = InOrder(true);
  while (static_cast<int>(order.size()) > shape_.max_slots) {
    CHECK(order.back()->is_copy());
    PlanBuilder::TakeBack(*order.back(), cache_, slots_, last_plan_);
    ++load_.preemptions;
    order.pop_back();
  }
}

void Scheduler::CheckCopies() const {
  int copies = 0, running = 0;
  for (const auto& [serial, sequence] : live_) {
    running += sequence->running ? 1 : 0;
    if (sequence->probe != 0) CHECK(live_.at(sequence->probe)->asked == serial);
    if (!sequence->is_copy()) continue;
    ++copies;
    CHECK(live_.at(sequence->asked)->probe == serial);
  }
  CHECK(copies == copies_ && running <= shape_.max_slots);
}

}  // namespace conclave::worker
