#include "router/contemplation/client_outbox.h"

#include <variant>

namespace conclave::router {
namespace {

void Merge(AgentDelta& into, const AgentDelta& next) {
  into.thinking += next.thinking;
  into.answer += next.answer;
  into.tokens.insert(into.tokens.end(), next.tokens.begin(), next.tokens.end());
  into.count = next.count;
}

void Merge(AnswerDelta& into, const AnswerDelta& next) { into.text += next.text; }

}  // namespace

void ClientOutbox::Push(ClientEvent event) {
  const auto merge = [&](auto& delta) {
    const Key key{event.what.index(), event.agent};
    const auto [found, inserted] =
        pending_.try_emplace(key, popped_ + 1 + static_cast<int64_t>(events_.size()));
    if (inserted) return events_.push_back(std::move(event));
    ClientEvent& waiting = events_[static_cast<size_t>(found->second - popped_ - 1)];
    Merge(std::get<std::remove_reference_t<decltype(delta)>>(waiting.what), delta);
  };
  if (auto* delta = std::get_if<AgentDelta>(&event.what)) return merge(*delta);
  if (auto* answer = std::get_if<AnswerDelta>(&event.what)) return merge(*answer);
  events_.push_back(std::move(event));
}

std::optional<ClientEvent> ClientOutbox::Pop() {
  if (events_.empty()) return std::nullopt;
  ClientEvent event = std::move(events_.front());
  events_.pop_front();
  event.sequence = ++popped_;
  if (std::holds_alternative<AgentDelta>(event.what) ||
      std::holds_alternative<AnswerDelta>(event.what)) {
    pending_.erase({event.what.index(), event.agent});
  }
  return event;
}

}  // namespace conclave::router
