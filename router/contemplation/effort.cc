#include "router/contemplation/effort.h"

#include <algorithm>

namespace conclave::router {

EffortChoice ChoiceOf(Effort effort) {
  switch (effort) {
    case Effort::kLow:
      return {.agents = 4, .wave = 2, .certainty = 0.85, .price = 0};
    case Effort::kMedium:
      return {.agents = 16, .wave = 2, .certainty = 0.87, .price = 0.1};
    case Effort::kHigh:
      return {.agents = 64, .wave = 3, .certainty = 0.9, .price = 0.1};
  }
  return {};
}

Request WithEffort(Request request, int cap) {
  if (request.strategy != Strategy::kAuto) return request;
  const EffortChoice choice = ChoiceOf(request.effort);
  if (!request.max_agents)
    request.max_agents = std::max(std::min(choice.agents, cap), request.min_agents.value_or(1));
  if (!request.wave) request.wave = std::clamp(choice.wave, 1, std::max(1, *request.max_agents));
  if (!request.stop_certainty) request.stop_certainty = choice.certainty;
  return request;
}

double WavePriceOf(const Request& request) {
  const bool sells = request.strategy == Strategy::kAuto && request.stop_rule == StopRule::kBeta &&
                     !request.checker;
  return sells ? ChoiceOf(request.effort).price : 0;
}

bool FirstTakesLikeliest(const Request& request) {
  return request.strategy == Strategy::kAuto && !request.checker && request.temperatures.empty() &&
         !request.sampling.temperature;
}

VoteWeight VoteWeightOf(const Request& request) {
  const bool open = request.strategy == Strategy::kAuto && !request.checker &&
                    request.aggregation == Aggregation::kAuto;
  return open ? VoteWeight::kTraceProbability : VoteWeight::kOne;
}

}  // namespace conclave::router
