#include "worker/service/agent_factory.h"

#include <algorithm>
#include <climits>
#include <iterator>
#include <string>
#include <utility>

#include "common/status.h"

namespace conclave::worker {
namespace {

// How what a copy says ends: as its agent's answer, but for the length.
OutputOptions AskedOf(const AgentRecipe& recipe) {
  return {.opening = Opening::kAsked,
          .budget = {.answer_tokens = recipe.probe_tokens},
          .stop = recipe.stop,
          .stop_tokens = recipe.stop_tokens,
          .stop_at_answer = std::nullopt};
}

// Most agents of a gang differ in nothing that is rendered.
bool SamePrompt(const AgentRecipe& a, const AgentRecipe& b) {
  return a.append == b.append && a.thinking == b.thinking && a.messages == b.messages;
}

}  // namespace

absl::Status AgentFactory::Check(const AgentRecipe& recipe) const {
  for (const TokenEvent& token : recipe.produced) {
    if (token.id < 0 || token.id >= vocab_size_) {
      return InvalidArgument("produced has token {}; the vocabulary has {}", token.id, vocab_size_);
    }
  }
  for (const auto& [token, bias] : recipe.sampling.logit_bias) {
    if (token < 0 || token >= vocab_size_) {
      return InvalidArgument("sampling.logit_bias has token {}; the vocabulary has {}", token,
                             vocab_size_);
    }
  }
  for (const TokenId token : recipe.stop_tokens) {
    if (token >= vocab_size_) {
      return InvalidArgument("stop_tokens has token {}; the vocabulary has {}", token, vocab_size_);
    }
  }
  return absl::OkStatus();
}

// What must not end the agent yet cannot be drawn.
DrawRules AgentFactory::RulesOf(const AgentRecipe& recipe) const {
  DrawRules rules;
  rules.top_logprobs = recipe.top_logprobs.value_or(0);
  rules.barred_until = recipe.budget.min_tokens;
  if (rules.barred_until == 0) return rules;
  // A checkpoint may name ends that its vocabulary does not have.
  std::copy_if(text_.end_tokens().begin(), text_.end_tokens().end(),
               std::back_inserter(rules.barred), [this](TokenId id) { return id < vocab_size_; });
  rules.barred.insert(rules.barred.end(), recipe.stop_tokens.begin(), recipe.stop_tokens.end());
  return rules;
}

// A model that does not think has nothing to be ended.
ProbeRules AgentFactory::ProbesOf(const AgentRecipe& recipe, const OutputOptions& asked) const {
  if (recipe.probe_every == 0 || text_.end_of_thinking().empty()) return {};
  return {
      .every = recipe.probe_every,
      .tokens = recipe.probe_tokens,
      .force = text_.end_of_thinking(),
      .policy = [this, asked] { return text_.MakePolicy(asked, std::make_shared<TextTrace>()); }};
}

std::string AgentFactory::AnswerOf(const OutputOptions& asked,
                                   const std::vector<TokenEvent>& tokens) const {
  const auto trace = std::make_shared<TextTrace>();
  const std::unique_ptr<TextPolicy> policy = text_.MakePolicy(asked, trace);
  std::string answer;
  for (size_t i = 0; i < tokens.size(); ++i) {
    policy->OnToken(tokens[i]);
    answer += trace->Take(static_cast<int>(i)).answer;
  }
  return answer;
}

void AgentFactory::Tell(TokenEvent& token) const {
  if (token.told.empty()) token.told.push_back({.id = token.id, .logprob = token.logprob});
  for (RatedToken& each : token.told) {
    each.text = text_.tokenizer().token_bytes(each.id).substr(0, kMostTokenText);
  }
}

absl::StatusOr<RenderedPrompt> AgentFactory::Render(const FamilyOpening& family,
                                                    const AgentRecipe& recipe) const {
  RenderOptions options;
  options.thinking = recipe.thinking;
  options.time_of_day = family.time_of_day;
  options.append = recipe.append;
  ASSIGN_OR_RETURN(
      RenderedPrompt prompt,
      text_.Render(recipe.messages.empty() ? family.messages : recipe.messages, options));
  if (prompt.tokens.size() >= static_cast<size_t>(max_positions_)) {
    return InvalidArgument("prompt has {} tokens; the limit is {}", prompt.tokens.size(),
                           max_positions_ - 1);
  }
  return prompt;
}

absl::StatusOr<Gang> AgentFactory::Make(const FamilyOpening& family,
                                        const std::vector<AgentRecipe>& recipes,
                                        const std::function<bool()>& wanted) const {
  if (recipes.size() > static_cast<size_t>(max_agents_)) {
    return OutOfRange("gang has {} agents; the group runs {} at a time", recipes.size(),
                      max_agents_);
  }
  Gang gang;
  RenderedPrompt prompt;
  for (size_t i = 0; i < recipes.size(); ++i) {
    if (!wanted()) return Cancelled("the family was released");
    const AgentRecipe& recipe = recipes[i];
    const auto annotated = [&](const absl::Status& status) {
      return Annotate(status, fmt::format("add.agents[{}]", i));
    };
    if (absl::Status status = Check(recipe); !status.ok()) return annotated(status);
    if (i == 0 || !SamePrompt(recipe, recipes[i - 1])) {
      auto rendered = Render(family, recipe);
      if (!rendered.ok()) return annotated(rendered.status());
      prompt = *std::move(rendered);
    }
    auto trace = std::make_shared<TextTrace>();
    gang.agents.push_back({.id = recipe.id,
                           .prompt_tokens = static_cast<int>(prompt.tokens.size()),
                           .count = static_cast<int>(recipe.produced.size()),
                           .trace = trace,
                           .told = recipe.top_logprobs.has_value(),
                           .asked = AskedOf(recipe)});
    gang.specs.push_back({.id = recipe.id,
                          .prompt = prompt.tokens,
                          .sampling = recipe.sampling,
                          .rules = RulesOf(recipe),
                          .grant = recipe.grant,
                          .run_to = recipe.run_to == 0 ? INT_MAX : recipe.run_to,
                          .policy = text_.MakePolicy({.opening = prompt.opening,
                                                      .budget = recipe.budget,
                                                      .stop = recipe.stop,
                                                      .stop_tokens = recipe.stop_tokens,
                                                      .stop_at_answer = std::nullopt},
                                                     std::move(trace)),
                          .produced = recipe.produced,
                          .bar = recipe.bar,
                          .probes = ProbesOf(recipe, gang.agents.back().asked)});
  }
  return gang;
}

}  // namespace conclave::worker
