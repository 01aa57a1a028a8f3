#include "router/api/admission_question.h"

#include <algorithm>
#include <cstdint>

namespace conclave::router {

AdmissionQuestion AdmissionOf(const Plan& plan, const std::string& tenant) {
  const bool splits = plan.strategy == Strategy::kDecompose;
  const int all = static_cast<int>(plan.agents.size());
  const int64_t first = int64_t{splits ? all : plan.waves.front()} * (1 + plan.rounds);
  const int64_t others = plan.aggregation_reserve + (splits ? plan.split.grant : 0);
  int64_t grant = 0;  // The greatest: agents of several models may have different ones.
  for (const AgentRecipe& agent : plan.agents) grant = std::max<int64_t>(grant, agent.grant);
  const int64_t tokens = grant * first + others;
  return {.tenant = tenant,
          .agents = splits ? all : *std::max_element(plan.waves.begin(), plan.waves.end()),
          .tokens = std::min(plan.total_tokens, tokens) + plan.probe_reserve * first};
}

}  // namespace conclave::router
