#include "worker/service/timed_sink.h"

namespace conclave::worker {

void TimedSink::OnTokens(AgentId agent, int first, const std::vector<TokenEvent>& tokens,
                         const std::optional<AgentEnd>& end) {
  if (!tokens.empty()) {
    const absl::Time now = clock_->Now();
    const auto [last, begins] = last_.try_emplace(agent, now);
    if (!begins) inter_token_.Observe(absl::ToDoubleSeconds(now - last->second));
    last->second = now;
  }
  if (end) last_.erase(agent);
  sink_->OnTokens(agent, first, tokens, end);
}

}  // namespace conclave::worker
