#pragma once

#include <absl/status/statusor.h>

#include <string>

#include "common/family.h"
#include "common/model_description.h"
#include "router/contemplation/request.h"

// What one agent is told: a part of the plan.
namespace conclave::router {

// kInvalidArgument that names the field: "budget.deadline is ...".
absl::Status Wrong(const std::string& field, const std::string& problem);

// An agent of this model as the request wants it: budgets, sampling, ends and what it tells. It has
// no id and no words yet. Its grant is thinking + end of thinking + answer tokens (only answer
// tokens when it does not think), at most the model's positions.
//
// kInvalidArgument when a budget exceeds the model's positions or a token id its vocabulary;
// kUnimplemented: the model is served by workers of an earlier version, which would not heed what
// is asked for.
absl::StatusOr<AgentRecipe> ResolveRecipe(const Request& request, const ModelDescription& model,
                                          Mode mode);

}  // namespace conclave::router
