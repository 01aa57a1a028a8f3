#include <algorithm>

#include "router/contemplation/course.h"

// Stragglers: an end that nobody may count before slower siblings have got as far waits for them,
// and no longer than the request's patience.
namespace conclave::router {

// Agents that can do nothing until others have got further: their end is not counted yet, or they
// are as far ahead as they may be.
std::vector<Waiter> Contemplation::Course::Waiters() const {
  std::vector<Waiter> waiters;
  if (!tally_.Any(Tally::State::kEnded) && limits_.max_lead <= 0) return waiters;
  for (const Agent& agent : agents_) {
    const Tally::State state = tally_.StateOf(agent.recipe.id);
    const bool ended = state == Tally::State::kEnded;
    const bool led = state == Tally::State::kRuns && agent.run_to > 0 &&
                     agent.transcript.count() >= agent.run_to;
    if (ended || led) {
      waiters.push_back({.clock = tally_.ClockOf(agent.recipe.id), .since = agent.moved});
    }
  }
  return waiters;
}

// Since when it has held somebody back: from the later of his stop and its own beginning on the
// group. One without a seat is not the group's fault: resume_wait bounds it.
absl::Time Contemplation::Course::HoldsSince(const Agent& agent,
                                             const std::vector<Waiter>& waiters) const {
  if (!Runs(agent) || agent.seat == Seat::kNone) return absl::InfiniteFuture();
  const int64_t clock = tally_.ClockOf(agent.recipe.id);
  absl::Time since = absl::InfiniteFuture();
  for (const Waiter& waiter : waiters) {
    if (waiter.clock > clock) since = std::min(since, waiter.since);
  }
  return std::max(since, agent.seated);
}

absl::Time Contemplation::Course::StragglerDue() const {
  absl::Time since = absl::InfiniteFuture();
  if (script_) return since;
  if (stage_ == Stage::kThink) {
    const std::vector<Waiter> waiters = Waiters();
    if (waiters.empty()) return since;
    for (const Agent& agent : agents_) since = std::min(since, HoldsSince(agent, waiters));
  } else if (stage_ == Stage::kSynthesise && line_ == Line::kOpen &&
             first_answer_ == absl::InfiniteFuture()) {
    // All that was found waits for the synthesiser, also while there is no room for it. Once its
    // answer has begun to leave, there is no other.
    since = std::max(Synthesiser().seated, Synthesiser().moved);
  }
  return since + plan_.patience;
}

// Gives up those that have held others back for too long, if enough are left without them.
void Contemplation::Course::DropStragglers() {
  if (stage_ == Stage::kSynthesise) return GiveUp({plan_.synthesis.id});
  const std::vector<Waiter> waiters = Waiters();
  std::vector<AgentId> stragglers;
  bool joining = false;
  for (const Agent& agent : agents_) {
    if (now_ < HoldsSince(agent, waiters) + plan_.patience) continue;
    if (agent.entered) {
      stragglers.push_back(agent.recipe.id);
    } else {
      joining = true;
    }
  }
  const std::vector<AgentId> late = Unanswered();
  if (joining && Entered() - static_cast<int>(late.size()) >= Least()) {
    const Decision narrow = NarrowOf(late);
    WithdrawUnanswered();
    Narrow(narrow);
  }
  if (stage_ == Stage::kThink && !stragglers.empty() && EnoughWithout(stragglers)) {
    AdvanceRound();  // What the gang held up is counted first: a decision comes after it.
    std::erase_if(stragglers, [this](AgentId id) { return !Runs(At(id)); });
    if (stage_ == Stage::kThink && !stragglers.empty()) GiveUp(stragglers);
  }
}

}  // namespace conclave::router
