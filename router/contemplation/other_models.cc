#include "router/contemplation/other_models.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "common/status_details.h"
#include "router/contemplation/recipe.h"

namespace conclave::router {
namespace {

// What is asked for, as it can be asked of another model.
Request WithoutTokenIds(Request request) {
  request.stop_tokens.clear();
  request.sampling.logit_bias.clear();
  return request;
}

absl::StatusOr<OtherModel> Described(const Request& request, const ModelDescription& model) {
  OtherModel other = {.model = model.name,
                      .fingerprint = model.fingerprint,
                      .profile = model.profile,
                      .answer_key = std::nullopt};
  ASSIGN_OR_RETURN(other.answer_key, ResolveKey(request, model));
  return other;
}

// The same, said of `what`.
absl::Status Of(const std::string& what, const absl::Status& status) {
  return WithDetails(Annotate(status, what), DetailsOf(status));
}

const ModelDescription* FindNamed(const std::vector<ModelDescription>& models,
                                  const std::string& name) {
  const auto found = std::find_if(models.begin(), models.end(),
                                  [&](const auto& model) { return model.name == name; });
  return found == models.end() ? nullptr : &*found;
}

}  // namespace

absl::StatusOr<std::optional<AnswerKey>> ResolveKey(const Request& request,
                                                    const ModelDescription& model) {
  absl::StatusOr<AnswerKey> key =
      AnswerKey::Parse(request.answer_key.value_or(model.profile.answer_key));
  if (key.ok()) return *std::move(key);
  if (request.answer_key) return Wrong("answer_key.argument", std::string(MessageOf(key.status())));
  return std::nullopt;
}

absl::Status ResolveAggregator(const Request& request, const ModelDescription& model, Plan& plan) {
  Request asked = WithoutTokenIds(request);
  asked.probes.reset();
  absl::StatusOr<AgentRecipe> recipe = ResolveRecipe(asked, model, plan.mode);
  if (!recipe.ok()) return Of(fmt::format("the aggregation of {}", model.name), recipe.status());
  if (recipe->grant >= model.max_positions) {
    return Wrong(
        "contemplation.aggregator_model",
        fmt::format("is {}; {} tokens of a pass leave none of its {} positions to a prompt",
                    model.name, recipe->grant, model.max_positions));
  }
  plan.synthesis = *std::move(recipe);
  ASSIGN_OR_RETURN(plan.aggregator, Described(request, model));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<AgentRecipe>> ResolveOthers(const Request& request,
                                                       const std::vector<ModelDescription>& models,
                                                       Plan& plan) {
  std::vector<AgentRecipe> recipes;
  if (request.agent_models.empty()) return recipes;
  plan.models = {0};
  for (size_t i = 1; i < request.agent_models.size(); ++i) {
    const std::string& name = request.agent_models[i];
    int place = 0;
    if (name != request.agent_models.front()) {
      const auto known = std::find_if(plan.others.begin(), plan.others.end(),
                                      [&](const OtherModel& other) { return other.model == name; });
      place = 1 + static_cast<int>(known - plan.others.begin());
    }
    plan.models.push_back(place);
    if (place <= static_cast<int>(plan.others.size())) continue;
    const ModelDescription* model = FindNamed(models, name);
    CHECK(model != nullptr);  // It was looked for under this name.
    absl::StatusOr<AgentRecipe> recipe = ResolveRecipe(WithoutTokenIds(request), *model, plan.mode);
    if (!recipe.ok()) return Of(fmt::format("agents of {}", name), recipe.status());
    recipes.push_back(*std::move(recipe));
    ASSIGN_OR_RETURN(plan.others.emplace_back(), Described(request, *model));
  }
  return recipes;
}

std::optional<AtATime> AgentsAtATime(const Request& request, const ModelDescription& model,
                                     const std::vector<ModelDescription>& others) {
  const std::vector<std::string>& names = request.agent_models;
  if (names.empty()) {
    if (model.max_agents == 0) return std::nullopt;
    return AtATime{.agents = model.max_agents, .model = model.name};
  }
  constexpr int kMost = 64;  // A request has no more.
  std::map<std::string, int> taken;
  for (int agents = 0; agents < kMost; ++agents) {
    const std::string& name = names[static_cast<size_t>(agents) % names.size()];
    const ModelDescription* of = name == names.front() ? &model : FindNamed(others, name);
    if (of != nullptr && of->max_agents > 0 && ++taken[name] > of->max_agents)
      return AtATime{.agents = agents, .model = name};
  }
  return std::nullopt;
}

absl::Status OfAgents(const Plan& plan, int model, const absl::Status& status) {
  if (status.ok() || model == 0) return status;
  return Of("agents of " + plan.others[static_cast<size_t>(model) - 1].model, status);
}

absl::Status CheckAgents(const ReplaySpec& replay, const Request& request, const Plan& plan) {
  const std::vector<std::string>& wanted = replay.agent_fingerprints;
  if (wanted.empty()) return absl::OkStatus();
  if (wanted.size() != request.agent_models.size()) {
    return Wrong("replay.agent_fingerprints",
                 fmt::format("are {}; contemplation.agent_models are {}", wanted.size(),
                             request.agent_models.size()));
  }
  for (size_t i = 0; i < wanted.size(); ++i) {
    const int of = plan.models[i];
    const std::string& there =
        of == 0 ? replay.fingerprint : plan.others[static_cast<size_t>(of) - 1].fingerprint;
    if (there == wanted[i]) continue;
    return Aborted("the replay differs: agents of {} had fingerprint {:.12}, this one's is {:.12}",
                   request.agent_models[i], wanted[i], there);
  }
  return absl::OkStatus();
}

}  // namespace conclave::router
