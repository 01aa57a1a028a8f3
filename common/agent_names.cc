#include "common/agent_names.h"

#include <fmt/format.h>

#include <algorithm>

namespace conclave {

std::string AgentName(AgentId agent) {
  if (StageOf(agent) == kAggregateStage) return "synthesiser";
  return fmt::format("agent {}", IndexOf(agent) + 1);
}

std::string AgentNames(std::vector<AgentId> agents) {
  std::sort(agents.begin(), agents.end());
  std::vector<int64_t> thinkers;
  std::vector<AgentId> others;
  for (const AgentId agent : agents) {
    if (StageOf(agent) == kThinkStage && RoundOf(agent) == 0) {
      thinkers.push_back(IndexOf(agent) + 1);
    } else {
      others.push_back(agent);
    }
  }
  std::string text;
  if (!thinkers.empty()) {
    text = fmt::format("agent{} {}", thinkers.size() == 1 ? "" : "s", Ranges(thinkers));
  }
  for (const AgentId agent : others) {
    text += fmt::format("{}the {}", text.empty() ? "" : " and ", AgentName(agent));
  }
  return text;
}

std::string Ranges(std::vector<int64_t> numbers) {
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t end = i;
    while (end + 1 < numbers.size() && numbers[end + 1] == numbers[end] + 1) ++end;
    text += fmt::format("{}{}", text.empty() ? "" : ", ", numbers[i]);
    if (end > i) text += fmt::format("-{}", numbers[end]);
    i = end + 1;
  }
  return text;
}

}  // namespace conclave
