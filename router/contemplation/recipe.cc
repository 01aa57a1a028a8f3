#include "router/contemplation/recipe.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "common/status.h"
#include "common/status_details.h"

namespace conclave::router {
namespace {

absl::StatusOr<int> ResolveTokens(const std::string& field, std::optional<int> given, int usual,
                                  int limit) {
  if (!given) return std::min(usual, limit);
  if (*given < 1 || *given > limit) {
    return Wrong(field, fmt::format("is {}; the limit is {}", *given, limit));
  }
  return *given;
}

absl::Status ResolveBudget(const Request& request, const ModelDescription& model, Mode mode,
                           AgentRecipe& recipe) {
  const int positions = model.max_positions;
  const PromptProfile& profile = model.profile;
  // A model without defaults of its own leaves a quarter of its positions to the prompt.
  const int usual_thinking =
      profile.thinking_tokens > 0 ? profile.thinking_tokens : std::max(1, positions / 2);
  const int usual_answer =
      profile.answer_tokens > 0 ? profile.answer_tokens : std::max(1, positions / 4);
  ASSIGN_OR_RETURN(
      const int thinking,
      ResolveTokens("budget.thinking_tokens", request.thinking_tokens, usual_thinking, positions));
  ASSIGN_OR_RETURN(
      recipe.budget.answer_tokens,
      ResolveTokens("budget.answer_tokens", request.answer_tokens, usual_answer, positions));
  int64_t grant = recipe.budget.answer_tokens;
  if (mode != Mode::kInstant && profile.thinks) {
    recipe.thinking = Thinking::kOn;
    recipe.budget.thinking_tokens = thinking;
    grant += int64_t{thinking} + profile.end_thinking_tokens;
  }
  recipe.grant = static_cast<int>(std::min<int64_t>(grant, positions));
  return absl::OkStatus();
}

Sampling ResolveSampling(const SamplingChoice& choice, Sampling sampling) {
  const auto set = [](auto& field, const auto& chosen) {
    if (chosen) field = *chosen;
  };
  set(sampling.temperature, choice.temperature);
  set(sampling.top_p, choice.top_p);
  set(sampling.min_p, choice.min_p);
  set(sampling.top_k, choice.top_k);
  set(sampling.repetition_penalty, choice.repetition_penalty);
  set(sampling.presence_penalty, choice.presence_penalty);
  set(sampling.frequency_penalty, choice.frequency_penalty);
  if (!choice.logit_bias.empty()) sampling.logit_bias = choice.logit_bias;
  return sampling;
}

// Workers of an earlier version would pass over what they do not know.
absl::Status CheckKnown(const Request& request, const ModelDescription& model) {
  constexpr int kFirstWithProbes = 3;  // Of decision versions: what tells such workers.
  const bool tokens = model.vocabulary > 0;
  const bool probes = model.decision_version >= kFirstWithProbes;
  const char* field = !tokens && !request.stop_tokens.empty() ? "stop_tokens"
                      : !tokens && request.min_tokens         ? "budget.min_tokens"
                      : !tokens && request.top_logprobs       ? "top_logprobs"
                      : !probes && request.probes             ? "contemplation.probes"
                                                              : nullptr;
  if (field == nullptr) return absl::OkStatus();
  StatusDetails details;
  details.fields.emplace_back(field, "is not known to the workers");
  return WithDetails(Unimplemented("{} is not known to the workers of {}: they are of an earlier "
                                   "version",
                                   field, model.name),
                     details);
}

absl::Status CheckTokens(const Request& request, const ModelDescription& model) {
  RETURN_IF_ERROR(CheckKnown(request, model));
  if (model.vocabulary == 0) return absl::OkStatus();
  for (size_t i = 0; i < request.stop_tokens.size(); ++i) {
    if (request.stop_tokens[i] < model.vocabulary) continue;
    return Wrong(fmt::format("stop_tokens[{}]", i),
                 fmt::format("is {}; the vocabulary has {} tokens", request.stop_tokens[i],
                             model.vocabulary));
  }
  for (const auto& [token, bias] : request.sampling.logit_bias) {
    if (token < model.vocabulary) continue;
    return Wrong(fmt::format("sampling.logit_bias[{}]", token),
                 fmt::format("names no token; the vocabulary has {}", model.vocabulary));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Wrong(const std::string& field, const std::string& problem) {
  StatusDetails details;
  details.fields.emplace_back(field, problem);
  return WithDetails(InvalidArgument("{} {}", field, problem), details);
}

absl::StatusOr<AgentRecipe> ResolveRecipe(const Request& request, const ModelDescription& model,
                                          Mode mode) {
  AgentRecipe recipe;
  RETURN_IF_ERROR(ResolveBudget(request, model, mode, recipe));
  recipe.sampling = ResolveSampling(request.sampling, model.profile.sampling);
  recipe.stop = request.stop;
  recipe.stop_tokens = request.stop_tokens;
  recipe.top_logprobs = request.top_logprobs;
  RETURN_IF_ERROR(CheckTokens(request, model));
  return recipe;
}

}  // namespace conclave::router
