#include "worker/service/outbox.h"

#include <iterator>
#include <utility>
#include <variant>

#include "common/check.h"

namespace conclave::worker {

FamilyDelta& Outbox::Append(FamilyDelta delta, size_t told) {
  const AgentId agent = delta.agent;
  events_.push_back(std::move(delta));
  open_[agent] = {.delta = std::get_if<FamilyDelta>(&events_.back()), .told = told};
  return *open_[agent].delta;
}

void Outbox::Push(ProbeResult probe) {
  open_.erase(probe.agent);
  events_.push_back(std::move(probe));
}

void Outbox::Push(FamilyDelta delta) {
  size_t told = 0;
  for (const TextToken& token : delta.tokens) told += ToldBytes(token.token);
  const auto open = open_.find(delta.agent);
  if (open == open_.end() || open->second.delta->tokens.size() >= kMostTokens ||
      open->second.told >= kMostTold) {
    Append(std::move(delta), told);
    return;
  }
  open->second.told += told;
  FamilyDelta& pending = *open->second.delta;
  CHECK(!pending.end && pending.first + static_cast<int>(pending.tokens.size()) == delta.first);
  pending.tokens.insert(pending.tokens.end(), std::make_move_iterator(delta.tokens.begin()),
                        std::make_move_iterator(delta.tokens.end()));
  pending.thinking += delta.thinking;
  pending.answer += delta.answer;
}

void Outbox::PushEnd(AgentId agent, int count, const AgentEnding& end) {
  FamilyDelta* pending = nullptr;
  if (const auto open = open_.find(agent); open != open_.end()) {
    pending = open->second.delta;
  } else {
    FamilyDelta delta;
    delta.agent = agent;
    delta.first = count;
    pending = &Append(std::move(delta), 0);
  }
  CHECK(pending->first + static_cast<int>(pending->tokens.size()) == count);
  pending->end = end;
}

std::optional<FamilyEvent> Outbox::Pop() {
  if (events_.empty()) return std::nullopt;
  if (const FamilyDelta* delta = std::get_if<FamilyDelta>(&events_.front())) {
    const auto open = open_.find(delta->agent);
    if (open != open_.end() && open->second.delta == delta) open_.erase(open);
  }
  FamilyEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

void Outbox::Clear() {
  events_.clear();
  open_.clear();
}

}  // namespace conclave::worker
