#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <optional>
#include <string>
#include <vector>

#include "common/answer/answer_key.h"
#include "common/family.h"
#include "common/model_description.h"
#include "router/contemplation/plan.h"
#include "router/contemplation/request.h"

// What other models than the request's say in a family: a part of the plan. Token ids that the
// request names are those of its own model's vocabulary, and nothing to them; nor is the pass of
// another model asked for its answer so far.
namespace conclave::router {

// How answers of this model are found. None: nothing can be compared.
absl::StatusOr<std::optional<AnswerKey>> ResolveKey(const Request& request,
                                                    const ModelDescription& model);

// The aggregation pass is of `model`: in its words, with its defaults, within its limits.
// kInvalidArgument: it leaves none of the model's positions to a prompt.
absl::Status ResolveAggregator(const Request& request, const ModelDescription& model, Plan& plan);

// Which models the request's agents are of, in plan.models and plan.others, and one agent of each
// of the others. As ResolveRecipe. REQUIRES: all of them are among `models`.
absl::StatusOr<std::vector<AgentRecipe>> ResolveOthers(const Request& request,
                                                       const std::vector<ModelDescription>& models,
                                                       Plan& plan);

// Agents that one group of each of the request's models can run at a time, at most 64, when they
// are shared out in turn, and the model that can take no more; none: it is not known.
struct AtATime {
  int agents = 0;
  std::string model;
};
std::optional<AtATime> AgentsAtATime(const Request& request, const ModelDescription& model,
                                     const std::vector<ModelDescription>& others);

// What is wrong with agents of that model, said of them where it isn't the request's own.
absl::Status OfAgents(const Plan& plan, int model, const absl::Status& status);

// kAborted: agents of the replayed request were of models with other fingerprints.
absl::Status CheckAgents(const ReplaySpec& replay, const Request& request, const Plan& plan);

}  // namespace conclave::router
