#include "router/contemplation/tally.h"

#include <algorithm>

#include "common/check.h"

namespace conclave::router {

const Tally::Entry* Tally::Find(AgentId agent) const {
  const auto found = std::lower_bound(entries_.begin(), entries_.end(), agent,
                                      [](const Entry& e, AgentId id) { return e.agent < id; });
  return found != entries_.end() && found->agent == agent ? &*found : nullptr;
}

Tally::Entry& Tally::At(AgentId agent) {
  const Entry* found = Find(agent);
  CHECK(found != nullptr);
  return entries_[static_cast<size_t>(found - entries_.data())];
}

void Tally::Enter(AgentId agent, int64_t start) {
  CHECK(Find(agent) == nullptr);
  const auto where = std::lower_bound(entries_.begin(), entries_.end(), agent,
                                      [](const Entry& e, AgentId id) { return e.agent < id; });
  entries_.insert(where, Entry{.agent = agent, .start = start});
}

void Tally::Withdraw(AgentId agent) {
  Entry& entry = At(agent);
  CHECK(entry.state == State::kRuns && entry.count == 0);
  entries_.erase(entries_.begin() + (&entry - entries_.data()));
}

void Tally::Advance(AgentId agent, int count) {
  Entry& entry = At(agent);
  CHECK(entry.state == State::kRuns && count >= entry.count);
  entry.count = count;
}

void Tally::End(AgentId agent) {
  Entry& entry = At(agent);
  CHECK(entry.state == State::kRuns);
  entry.state = State::kEnded;
}

void Tally::Count(AgentId agent) {
  Entry& entry = At(agent);
  CHECK(entry.state == State::kEnded);
  entry.state = State::kCounted;
}

void Tally::Cut(AgentId agent, int kept) {
  Entry& entry = At(agent);
  CHECK(entry.state == State::kRuns || entry.state == State::kEnded);
  CHECK(kept >= 0 && kept <= entry.count);
  entry.state = State::kCut;
  entry.count = kept;
}

std::optional<AgentId> Tally::NextEnd() const {
  const Entry* next = nullptr;
  for (const Entry& entry : entries_) {
    if (entry.state != State::kEnded) continue;
    if (next == nullptr || entry.clock() < next->clock()) next = &entry;
  }
  if (next == nullptr) return std::nullopt;
  return next->agent;
}

std::optional<AgentId> Tally::NextCountable() const {
  const std::optional<AgentId> next = NextEnd();
  if (!next) return std::nullopt;
  const int64_t clock = ClockOf(*next);
  for (const Entry& entry : entries_) {
    if (entry.state == State::kRuns && entry.clock() < clock) return std::nullopt;
  }
  return next;
}

Tally::State Tally::StateOf(AgentId agent) const {
  const Entry* entry = Find(agent);
  return entry == nullptr ? State::kAbsent : entry->state;
}

int64_t Tally::ClockOf(AgentId agent) const {
  const Entry* entry = Find(agent);
  CHECK(entry != nullptr);
  return entry->clock();
}

int64_t Tally::StartOf(AgentId agent) const {
  const Entry* entry = Find(agent);
  CHECK(entry != nullptr);
  return entry->start;
}

int64_t Tally::clock() const {
  int64_t greatest = 0;
  std::optional<int64_t> least;
  for (const Entry& entry : entries_) {
    greatest = std::max(greatest, entry.clock());
    if (entry.state == State::kRuns) least = std::min(least.value_or(entry.clock()), entry.clock());
  }
  return least.value_or(greatest);
}

std::vector<AgentId> Tally::In(State state) const {
  std::vector<AgentId> agents;
  for (const Entry& entry : entries_) {
    if (entry.state == state) agents.push_back(entry.agent);
  }
  return agents;
}

bool Tally::Any(State state) const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [state](const Entry& entry) { return entry.state == state; });
}

}  // namespace conclave::router
