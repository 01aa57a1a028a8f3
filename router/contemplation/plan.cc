#include "router/contemplation/plan.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "common/status.h"
#include "common/status_details.h"
#include "router/contemplation/aggregation.h"
#include "router/contemplation/decision_script.h"
#include "router/contemplation/effort.h"
#include "router/contemplation/other_models.h"
#include "router/contemplation/recipe.h"

namespace conclave::router {
namespace {

constexpr int kMostAgents = 64;
constexpr int kDefaultAgents = 8;
constexpr int64_t kMostRoundBytes = 16 << 20;  // Of what the agents of a later round are told.
constexpr float kApart = 1;                    // A temperature at which agents are not alike.

// Whether a final pass may follow the round.
bool Synthesises(Aggregation aggregation) {
  return aggregation != Aggregation::kVote && aggregation != Aggregation::kWeightedVote;
}

// Whether it does without that pass where there are no tokens for it.
bool IsLean(Aggregation aggregation) {
  return Synthesises(aggregation) && aggregation != Aggregation::kSynthesise;
}

absl::StatusOr<Mode> ResolveMode(const Request& request, const PromptProfile& profile) {
  const Mode mode = request.mode.value_or(profile.thinks ? Mode::kThinking : Mode::kInstant);
  if (mode == Mode::kThinking && !profile.thinks) {
    return Wrong("mode", "is THINKING; the model does not think");
  }
  const bool several = request.min_agents || request.max_agents || request.wave;
  if (mode != Mode::kContemplating && (several || !request.agent_models.empty())) {
    return Wrong("contemplation", "is for MODE_CONTEMPLATING");
  }
  return mode;
}

// Several agents that take the likeliest token would all write the same: a model whose own
// temperature is 0 was not meant to be asked so. A request that says 0 means it.
void DrawApart(const Request& request, int agents, Sampling& sampling) {
  if (agents == 1 || request.sampling.temperature) return;
  if (sampling.temperature == 0) sampling.temperature = kApart;
}

struct Width {
  int least = 1, most = 1;
};

// `at_a_time`: agents that a group can run, where it is known.
absl::StatusOr<Width> ResolveWidth(const Request& request, const std::optional<AtATime>& at_a_time,
                                   const Limits& limits) {
  const int cap = std::min(kMostAgents, limits.max_agents);
  Width width;
  width.least = request.min_agents.value_or(1);
  width.most = request.max_agents.value_or(std::max(std::min(kDefaultAgents, cap), width.least));
  if (width.most < 1 || width.most > cap) {
    return Wrong(request.max_agents ? "contemplation.max_agents" : "contemplation.min_agents",
                 fmt::format("is {}; the limit is {}", width.most, cap));
  }
  if (width.least < 1 || width.least > width.most) {
    return Wrong("contemplation.min_agents",
                 fmt::format("is {}; the limit is {}", width.least, width.most));
  }
  if (request.wave && (*request.wave < 1 || *request.wave > width.most)) {
    return Wrong("contemplation.wave",
                 fmt::format("is {}; the limit is {}", *request.wave, width.most));
  }
  if (at_a_time && width.least > at_a_time->agents) {
    return Wrong("contemplation.min_agents",
                 fmt::format("is {}; a group of {} runs {} at a time{}", width.least,
                             at_a_time->model, at_a_time->agents,
                             request.agent_models.empty() ? "" : ", those of others included"));
  }
  return width;
}

absl::StatusOr<int64_t> ResolveTotal(const Request& request, int64_t usual, const Limits& limits) {
  if (!request.total_tokens) return std::min(usual, limits.max_tokens);
  const int64_t total = *request.total_tokens;
  if (total < 1 || total > limits.max_tokens) {
    return Wrong("budget.total_tokens",
                 fmt::format("is {}; the limit is {}", total, limits.max_tokens));
  }
  return total;
}

int MostGranted(const std::vector<AgentRecipe>& recipes) {
  int most = 0;
  for (const AgentRecipe& recipe : recipes) most = std::max(most, recipe.grant);
  return most;
}

// What the strategy costs: a unit of width over all rounds, what splits, what merges.
struct Cost {
  int64_t each = 0, split = 0, merge = 0;
  int64_t Of(int width) const { return each * width + split + merge; }
};

Cost CostOf(const Request& request, int grant, const Plan& plan) {
  const bool splits = plan.strategy == Strategy::kDecompose;
  const bool merges = splits || Synthesises(request.aggregation);
  return {.each = int64_t{grant} * (1 + plan.rounds),
          .split = splits ? plan.split.grant : 0,
          .merge = merges ? plan.synthesis.grant : 0};
}

// Narrows the width, and the reserve of kAuto, to what the total allows.
absl::Status FitTotal(const Request& request, Cost cost, Width& width, Plan& plan) {
  const int64_t total = plan.total_tokens;
  const bool lean = IsLean(request.aggregation) && plan.strategy != Strategy::kDecompose;
  const int64_t usual = cost.Of(width.most);
  if (lean) cost.merge = std::clamp<int64_t>(total - cost.each * width.least, 0, cost.merge);
  plan.aggregation_reserve = cost.merge;
  if (usual <= total) return absl::OkStatus();
  if (cost.Of(width.least) > total) {
    const std::string rounds = plan.rounds > 0 ? fmt::format(" in {} rounds", 1 + plan.rounds) : "";
    return Wrong("budget.total_tokens",
                 fmt::format("is {}; {} agents of {} tokens{} and {} for {} need {}", total,
                             width.least, cost.each, rounds, cost.merge + cost.split,
                             cost.split > 0 ? "splitting and joining" : "the aggregation",
                             cost.Of(width.least)));
  }
  width.most = static_cast<int>((total - cost.merge - cost.split) / cost.each);
  return absl::OkStatus();
}

// The total, the reserve and the width, by what the plan's strategy costs.
absl::Status ResolveCost(const Request& request, const Limits& limits, int grant, Width& width,
                         Plan& plan) {
  const Cost cost = CostOf(request, grant, plan);
  ASSIGN_OR_RETURN(plan.total_tokens, ResolveTotal(request, cost.Of(width.most), limits));
  return FitTotal(request, cost, width, plan);
}

// How the work is shared, as far as the model has words for it.
absl::Status ResolveStrategy(const Request& request, const PromptProfile& profile, int agents,
                             const AgentRecipe& recipe, Plan& plan) {
  const PromptProfile& joiner = plan.aggregator ? plan.aggregator->profile : profile;
  plan.digest_bytes = request.digest_bytes.value_or(plan.digest_bytes);
  if (request.drafts && (*request.drafts < 1 || *request.drafts > agents)) {
    return Wrong("contemplation.drafts",
                 fmt::format("is {}; it can be 1 to {}", *request.drafts, agents));
  }
  const bool refine =
      CanRefine(profile) && std::all_of(plan.others.begin(), plan.others.end(),
                                        [](const auto& other) { return CanRefine(other.profile); });
  if (request.strategy == Strategy::kRefine && refine) {
    plan.strategy = Strategy::kRefine;
    plan.rounds = request.rounds.value_or(1);
    plan.drafts = request.drafts.value_or(0);
  } else if (request.strategy == Strategy::kDecompose && CanDecompose(profile, joiner)) {
    plan.strategy = Strategy::kDecompose;
    plan.split = recipe;
    plan.split.id = MakeAgentId(kSplitStage, 0, 0);
    // What ends the answer, and how long it has to be, is said of the answer.
    plan.split.stop.clear();
    plan.split.stop_tokens.clear();
    plan.split.messages = SplitMessages(profile, request.messages);
  }
  return absl::OkStatus();
}

// In later rounds each agent has messages of its own, with what it sees of the others.
absl::Status CheckRounds(const Request& request, int agents, const Plan& plan) {
  if (plan.strategy != Strategy::kRefine && plan.strategy != Strategy::kDecompose)
    return absl::OkStatus();
  int64_t bytes = 0;
  for (const Message& message : request.messages) {
    for (const Part& part : message.parts) bytes += static_cast<int64_t>(part.text.size());
  }
  const int64_t all = agents * (bytes + plan.digest_bytes);
  if (all <= kMostRoundBytes) return absl::OkStatus();
  const bool digest = plan.digest_bytes > bytes;
  const std::string blamed =
      digest ? fmt::format("is {}", plan.digest_bytes) : fmt::format("have {} bytes", bytes);
  return Wrong(digest ? "contemplation.digest_bytes" : "messages",
               fmt::format("{}; {} agents, each with {} bytes of messages and {} of digest, are "
                           "told {} in a round; the limit is {}",
                           blamed, agents, bytes, plan.digest_bytes, all, kMostRoundBytes));
}

absl::StatusOr<StopTest> ResolveStop(const Request& request, int agents) {
  StopTest stop;
  stop.rule = request.stop_rule;
  stop.certainty = request.stop_certainty.value_or(stop.certainty);
  const int least = stop.rule == StopRule::kWindow ? 2 : 1;
  const int usual = stop.rule == StopRule::kWindow  ? 4
                    : stop.rule == StopRule::kFirst ? (agents + 1) / 2
                                                    : agents / 2 + 1;
  const int most = std::max(least, request.max_agents.value_or(agents));
  stop.votes = request.stop_votes.value_or(std::clamp(usual, least, most));
  if (stop.votes < least || stop.votes > most) {
    return Wrong("contemplation.stop_votes",
                 fmt::format("is {}; it can be {} to {}", stop.votes, least, most));
  }
  return stop;
}

// The weight of a vote, and the bar of the round's agents; the aggregation pass has none.
void ResolveConfidence(const Request& request, Plan& plan, AgentRecipe& recipe) {
  if (request.aggregation == Aggregation::kWeightedVote)
    plan.vote_weight = request.vote_weight.value_or(VoteWeight::kTop20LowestWindow);
  else
    plan.vote_weight = VoteWeightOf(request);
  plan.confidence_window = request.confidence_window.value_or(plan.confidence_window);
  if (request.confidence_bar)
    recipe.bar = {.bar = *request.confidence_bar, .window = plan.confidence_window};
}

// An agent may produce fewer tokens where it has less; where it must not, that is wrong.
absl::Status ResolveFewest(const Request& request, AgentRecipe& recipe) {
  recipe.budget.min_tokens = request.min_tokens.value_or(0);
  if (recipe.budget.min_tokens <= recipe.grant) return absl::OkStatus();
  return Wrong("budget.min_tokens", fmt::format("is {}; an agent may produce {} tokens",
                                                recipe.budget.min_tokens, recipe.grant));
}

// Probes of the round's agents; the aggregation pass is not asked. What a copy is given and draws
// fits into what its agent draws in between: so copies never cost more than thinking does.
absl::Status ResolveProbes(const Request& request, const PromptProfile& profile, Plan& plan,
                           AgentRecipe& recipe) {
  if (!request.probes) return absl::OkStatus();
  if (plan.mode != Mode::kContemplating) {
    return Wrong("contemplation.probes", "are for MODE_CONTEMPLATING");
  }
  if (recipe.thinking != Thinking::kOn) {
    return Wrong("contemplation.probes", "ask agents that think; the model does not");
  }
  constexpr int kUsualTokens = 20;
  const int every = request.probes->every;
  const int room = every - profile.end_thinking_tokens;
  const int tokens = request.probes->answer_tokens.value_or(std::clamp(room, 1, kUsualTokens));
  if (tokens > room) {
    return Wrong("contemplation.probes.every",
                 fmt::format("is {}; the end of thinking and an answer have {} + {} tokens", every,
                             profile.end_thinking_tokens, tokens));
  }
  recipe.probe_every = every;
  recipe.probe_tokens = tokens;
  plan.probe_reserve =
      std::max(plan.probe_reserve, recipe.budget.thinking_tokens / every *
                                       int64_t{profile.end_thinking_tokens + tokens});
  plan.probes_agree = request.probes->agree.value_or(0);
  return absl::OkStatus();
}

absl::Status ResolveChecker(const Request& request, Plan& plan) {
  if (!request.checker) {
    if (request.stop_rule == StopRule::kAccepted) {
      return Wrong("contemplation.stop_rule", "is ACCEPTED; there is no checker");
    }
    if (request.aggregation == Aggregation::kCheck) {
      return Wrong("contemplation.aggregation", "is CHECK; there is no checker");
    }
    return absl::OkStatus();
  }
  absl::StatusOr<Checker> checker = Checker::Parse(*request.checker);
  if (!checker.ok()) {
    using Kind = CheckerSpec::Kind;
    const char* rule = request.checker->kind == Kind::kArithmetic ? "arithmetic.value"
                       : request.checker->kind == Kind::kRegex    ? "regex"
                                                                  : "json_schema";
    return Wrong(fmt::format("contemplation.checker.{}", rule),
                 std::string(MessageOf(checker.status())));
  }
  plan.checker = *std::move(checker);
  plan.stop.checked = true;
  return absl::OkStatus();
}

// A replay's pass is of the model that it was of.
absl::Status CheckAggregator(const ReplaySpec& replay, const Plan& plan) {
  const std::string& wanted = replay.aggregator_fingerprint;
  if (wanted.empty() || (plan.aggregator && plan.aggregator->fingerprint == wanted))
    return absl::OkStatus();
  return Aborted(
      "the replay differs: its aggregation had fingerprint {:.12}, this one's is {}", wanted,
      plan.aggregator ? fmt::format("{:.12}", plan.aggregator->fingerprint) : "that of its agents");
}

absl::Status ResolveReplay(const Request& request, Plan& plan) {
  plan.seed = request.seed;
  plan.time_of_day = request.time_of_day;
  if (!request.replay) return absl::OkStatus();
  const ReplaySpec& replay = *request.replay;
  RETURN_IF_ERROR(CheckAggregator(replay, plan));
  RETURN_IF_ERROR(CheckAgents(replay, request, plan));
  if (request.seed_given && request.seed != replay.seed) {
    return Wrong("seed", fmt::format("is {}; replay.seed is {}", request.seed, replay.seed));
  }
  if (replay.decision_version != kDecisionVersion) {
    return Aborted("the replay differs: decision_version is {}, this server's is {}",
                   replay.decision_version, kDecisionVersion);
  }
  const DecisionScript::Cast cast = {.agents = static_cast<int>(plan.agents.size()),
                                     .first = plan.waves.front(),
                                     .rounds = plan.rounds,
                                     .splits = plan.strategy == Strategy::kDecompose};
  const absl::Status checked = DecisionScript::Check(
      replay.decisions, cast, std::max(MostGranted(plan.agents), plan.synthesis.grant));
  if (!checked.ok()) return Wrong("replay.decisions", std::string(MessageOf(checked)));
  plan.seed = replay.seed;
  plan.time_of_day = replay.time_of_day;
  return absl::OkStatus();
}

// How many agents enter together, until all have: the first ones are at least the minimum.
std::vector<int> Waves(int agents, int wave, int least) {
  std::vector<int> waves = {std::min(agents, std::max(wave, least))};
  for (int left = agents - waves.front(); left > 0; left -= waves.back()) {
    waves.push_back(std::min(left, wave));
  }
  return waves;
}

// Of each model one, in `recipes`. A role stands behind the question, after an empty line: so what
// is before it is prompt that all agents share.
void MakeAgents(const Request& request, const std::vector<AgentRecipe>& recipes, int agents,
                Plan& plan) {
  const auto of = [](const auto& list, int i) {
    return list[static_cast<size_t>(i) % list.size()];
  };
  for (int i = 0; i < agents; ++i) {
    AgentRecipe& agent = plan.agents.emplace_back(recipes[static_cast<size_t>(of(plan.models, i))]);
    agent.id = MakeAgentId(kThinkStage, 0, i);
    if (!request.roles.empty()) agent.append = "\n\n" + of(request.roles, i);
    if (!request.temperatures.empty()) agent.sampling.temperature = of(request.temperatures, i);
  }
  if (agents > 1 && FirstTakesLikeliest(request)) plan.agents.front().sampling.temperature = 0;
}

}  // namespace

absl::StatusOr<Plan> MakePlan(const Request& asked, const ModelDescription& model,
                              const Limits& limits, const ModelDescription* aggregator,
                              const std::vector<ModelDescription>& others) {
  Plan plan;
  const Request request = WithEffort(asked, std::min(kMostAgents, limits.max_agents));
  ASSIGN_OR_RETURN(plan.mode, ResolveMode(request, model.profile));
  ASSIGN_OR_RETURN(AgentRecipe recipe, ResolveRecipe(request, model, plan.mode));

  Width width;
  std::vector<AgentRecipe> recipes;
  const std::optional<AtATime> at_a_time = AgentsAtATime(request, model, others);
  if (plan.mode == Mode::kContemplating) {
    ASSIGN_OR_RETURN(width, ResolveWidth(request, at_a_time, limits));
    ASSIGN_OR_RETURN(recipes, ResolveOthers(request, others, plan));
    plan.synthesis = recipe;
    if (aggregator != nullptr) RETURN_IF_ERROR(ResolveAggregator(request, *aggregator, plan));
    plan.synthesis.id = MakeAgentId(kAggregateStage, 0, 0);
    RETURN_IF_ERROR(ResolveStrategy(request, model.profile, width.most, recipe, plan));
    const Width asked_for = width;
    const int grant = std::max(recipe.grant, MostGranted(recipes));
    RETURN_IF_ERROR(ResolveCost(request, limits, grant, width, plan));
    if (plan.strategy == Strategy::kDecompose && width.most < 2) {  // It could never be followed.
      plan.strategy = Strategy::kSample;
      plan.split = {};
      width = asked_for;
      RETURN_IF_ERROR(ResolveCost(request, limits, grant, width, plan));
    }
    RETURN_IF_ERROR(CheckRounds(request, width.most, plan));
  } else {
    ASSIGN_OR_RETURN(plan.total_tokens, ResolveTotal(request, recipe.grant, limits));
    recipe.grant = static_cast<int>(std::min<int64_t>(recipe.grant, plan.total_tokens));
  }
  recipes.insert(recipes.begin(), recipe);
  for (size_t i = 0; i < recipes.size(); ++i) {
    DrawApart(request, width.most, recipes[i].sampling);
    const absl::Status fits = ResolveFewest(request, recipes[i]);
    RETURN_IF_ERROR(OfAgents(plan, static_cast<int>(i), fits));
  }
  recipe = recipes.front();
  plan.synthesis.budget.min_tokens = recipe.budget.min_tokens;
  if (plan.aggregator && recipe.budget.min_tokens > plan.synthesis.grant) {
    return Wrong(
        "budget.min_tokens",
        fmt::format("is {}; the aggregation of {} may produce {} tokens", recipe.budget.min_tokens,
                    plan.aggregator->model, plan.synthesis.grant));
  }
  plan.settings = {.sampling = recipe.sampling,
                   .budget = recipe.budget,
                   .end_tokens = model.profile.end_tokens,
                   .stop_tokens = recipe.stop_tokens,
                   .stop = recipe.stop};
  plan.min_agents = width.least;
  plan.profile = model.profile;
  for (size_t i = 0; i < recipes.size(); ++i) {
    if (plan.mode == Mode::kContemplating) ResolveConfidence(request, plan, recipes[i]);
    const auto of = static_cast<int>(i);
    const absl::Status fits = ResolveProbes(request, plan.profile_of(of), plan, recipes[i]);
    RETURN_IF_ERROR(OfAgents(plan, of, fits));
  }
  ASSIGN_OR_RETURN(plan.stop, ResolveStop(request, width.most));
  MakeAgents(request, recipes, width.most, plan);
  plan.price = WavePriceOf(request);
  plan.waves = Waves(width.most, request.wave.value_or(width.most), width.least);

  plan.deadline = request.deadline.value_or(limits.deadline);
  if (plan.deadline > limits.deadline) {
    return Wrong("budget.deadline", fmt::format("is {} ms; the limit is {} ms",
                                                absl::ToInt64Milliseconds(plan.deadline),
                                                absl::ToInt64Milliseconds(limits.deadline)));
  }
  plan.patience = request.patience.value_or(limits.straggler_patience);
  if (plan.patience > limits.straggler_patience) {
    return Wrong(
        "contemplation.patience",
        fmt::format("is {} ms; the limit is {} ms", absl::ToInt64Milliseconds(plan.patience),
                    absl::ToInt64Milliseconds(limits.straggler_patience)));
  }
  ASSIGN_OR_RETURN(plan.answer_key, ResolveKey(request, model));
  if (plan.mode == Mode::kContemplating) RETURN_IF_ERROR(ResolveChecker(request, plan));
  RETURN_IF_ERROR(ResolveReplay(request, plan));
  plan.model = model.name;
  plan.fingerprint = request.replay ? request.replay->fingerprint : model.fingerprint;
  plan.group_agents = at_a_time ? std::max(1, at_a_time->agents) : width.most;
  plan.request = request;
  plan.request.include.tokens |= request.top_logprobs.has_value();
  return plan;
}

}  // namespace conclave::router
