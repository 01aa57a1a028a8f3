#include "router/contemplation/effort.h"

#include <algorithm>

namespace conclave::router {
namespace {

constexpr float kSteady = 0.7f;

}  // namespace

EffortChoice ChoiceOf(Effort effort) {
  switch (effort) {
    case Effort::kLow:
      return {.agents = 4, .wave = 2, .votes = 2, .price = 0, .temperature = kSteady};
    case Effort::kMedium:
      return {.agents = 16, .wave = 3, .votes = 3, .price = 0.12, .temperature = kSteady};
    case Effort::kHigh:
      return {.agents = 64, .wave = 4, .votes = 3, .price = 0.06, .temperature = kSteady};
  }
  return {};
}

Request WithEffort(Request request, int cap) {
  if (request.strategy != Strategy::kAuto) return request;
  const EffortChoice choice = ChoiceOf(request.effort);
  if (!request.max_agents)
    request.max_agents = std::max(std::min(choice.agents, cap), request.min_agents.value_or(1));
  if (!request.wave) request.wave = std::clamp(choice.wave, 1, std::max(1, *request.max_agents));
  if (request.stop_rule == StopRule::kQuorum && !request.stop_votes)
    request.stop_votes = std::min(choice.votes, *request.max_agents);
  return request;
}

double WavePriceOf(const Request& request) {
  const bool votes = request.stop_rule == StopRule::kQuorum || request.stop_rule == StopRule::kBeta;
  const bool sells = request.strategy == Strategy::kAuto && votes && !request.checker;
  return sells ? ChoiceOf(request.effort).price : 0;
}

std::optional<float> HottestOf(const Request& request) {
  if (request.strategy != Strategy::kAuto || request.checker) return std::nullopt;
  return ChoiceOf(request.effort).temperature;
}

VoteWeight VoteWeightOf(const Request& request) {
  const bool open = request.strategy == Strategy::kAuto && !request.checker &&
                    request.aggregation == Aggregation::kAuto;
  return open ? VoteWeight::kTraceProbability : VoteWeight::kOne;
}

}  // namespace conclave::router
