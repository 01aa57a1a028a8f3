#include "router/contemplation/client_outbox.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/utf8.h"

namespace conclave::router {
namespace {

constexpr size_t kMost = ClientOutbox::kMostDelta;

size_t SizeOf(const TokenEvent& token) { return ClientOutbox::kTokenBytes + ToldBytes(token); }
size_t SizeOf(const AgentDelta& delta) {
  size_t size = delta.thinking.size() + delta.answer.size();
  for (const TokenEvent& token : delta.tokens) size += SizeOf(token);
  return size;
}
size_t SizeOf(const AnswerDelta& delta) { return delta.text.size(); }

void Merge(AgentDelta& into, const AgentDelta& next) {
  into.thinking += next.thinking;
  into.answer += next.answer;
  into.tokens.insert(into.tokens.end(), next.tokens.begin(), next.tokens.end());
  into.count = next.count;
}

void Merge(AnswerDelta& into, const AnswerDelta& next) { into.text += next.text; }

// Calls `take` with pieces of at most kMost bytes that end between two characters.
template <typename Take>
void InPieces(const std::string& text, Take take) {
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view piece = FirstCharacters(rest, kMost);
    take(std::string(piece));
    rest.remove_prefix(piece.size());
  }
}

std::vector<AnswerDelta> Split(const AnswerDelta& delta) {
  std::vector<AnswerDelta> pieces;
  InPieces(delta.text, [&](std::string text) { pieces.push_back({.text = std::move(text)}); });
  return pieces;
}

std::vector<AgentDelta> Split(const AgentDelta& delta) {
  std::vector<AgentDelta> pieces;
  const auto add = [&]() -> AgentDelta& {
    pieces.emplace_back().count = delta.count;
    return pieces.back();
  };
  InPieces(delta.thinking, [&](std::string text) { add().thinking = std::move(text); });
  InPieces(delta.answer, [&](std::string text) { add().answer = std::move(text); });
  size_t room = 0;
  for (const TokenEvent& token : delta.tokens) {
    const size_t size = SizeOf(token);
    if (size > room) {
      add();
      room = kMost;
    }
    room -= std::min(room, size);
    pieces.back().tokens.push_back(token);
  }
  return pieces;
}

}  // namespace

void ClientOutbox::Push(ClientEvent event) {
  const auto push = [&](auto& delta) {
    if (SizeOf(delta) <= kMost) return PushDelta(std::move(event));
    for (auto& piece : Split(delta)) {
      PushDelta({.sequence = 0, .agent = event.agent, .what = std::move(piece)});
    }
  };
  if (auto* delta = std::get_if<AgentDelta>(&event.what)) return push(*delta);
  if (auto* answer = std::get_if<AnswerDelta>(&event.what)) return push(*answer);
  events_.push_back(std::move(event));
}

void ClientOutbox::PushDelta(ClientEvent event) {
  const auto merge = [&](auto& delta) {
    Pending& last = pending_[{event.what.index(), event.agent}];
    const size_t bytes = SizeOf(delta);
    if (last.number > 0 && last.bytes + bytes <= kMost) {
      ClientEvent& waiting = events_[static_cast<size_t>(last.number - popped_ - 1)];
      last.bytes += bytes;
      return Merge(std::get<std::remove_reference_t<decltype(delta)>>(waiting.what), delta);
    }
    last = {.number = popped_ + 1 + static_cast<int64_t>(events_.size()), .bytes = bytes};
    events_.push_back(std::move(event));
  };
  if (auto* delta = std::get_if<AgentDelta>(&event.what)) return merge(*delta);
  merge(std::get<AnswerDelta>(event.what));
}

std::optional<ClientEvent> ClientOutbox::Pop() {
  if (events_.empty()) return std::nullopt;
  ClientEvent event = std::move(events_.front());
  events_.pop_front();
  event.sequence = ++popped_;
  // A later delta of the same agent may wait: that one still takes more.
  const auto last = pending_.find({event.what.index(), event.agent});
  if (last != pending_.end() && last->second.number == popped_) pending_.erase(last);
  return event;
}

}  // namespace conclave::router
