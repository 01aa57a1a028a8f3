#include "common/agent_names.h"

#include <fmt/format.h>

#include <algorithm>

namespace conclave {

namespace {

// Where it stands among others of its kind: " of round 2"; empty in the first round.
std::string PlaceOf(AgentId agent) {
  if (StageOf(agent) == kPartStage) return fmt::format(" of part {}", RoundOf(agent) + 1);
  return RoundOf(agent) == 0 ? "" : fmt::format(" of round {}", RoundOf(agent) + 1);
}

}  // namespace

std::string AgentName(AgentId agent) {
  if (StageOf(agent) == kAggregateStage) return "synthesiser";
  if (StageOf(agent) == kSplitStage) return "splitter";
  return fmt::format("agent {}{}", IndexOf(agent) + 1, PlaceOf(agent));
}

std::string AgentNames(std::vector<AgentId> agents) {
  std::sort(agents.begin(), agents.end());
  std::vector<std::string> names, others;
  for (size_t i = 0; i < agents.size();) {
    const AgentId first = agents[i];
    if (StageOf(first) == kAggregateStage || StageOf(first) == kSplitStage) {
      others.push_back(fmt::format("the {}", AgentName(first)));
      ++i;
      continue;
    }
    std::vector<int64_t> numbers;
    for (; i < agents.size() && StageOf(agents[i]) == StageOf(first) &&
           RoundOf(agents[i]) == RoundOf(first);
         ++i) {
      numbers.push_back(IndexOf(agents[i]) + 1);
    }
    const std::string ranges = Ranges(numbers);
    const bool one = ranges.find_first_of(",-") == std::string::npos;
    names.push_back(fmt::format("agent{} {}{}", one ? "" : "s", ranges, PlaceOf(first)));
  }
  names.insert(names.end(), others.begin(), others.end());
  return fmt::format("{}", fmt::join(names, " and "));
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
