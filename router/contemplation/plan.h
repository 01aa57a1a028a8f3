#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/answer/answer_key.h"
#include "common/answer/checker.h"
#include "common/confidence.h"
#include "common/family.h"
#include "common/model_description.h"
#include "router/contemplation/client_event.h"
#include "router/contemplation/request.h"
#include "router/contemplation/stop_rule.h"

namespace conclave::router {

// The server's caps and patience; from the configuration. All durations are finite in production.
struct Limits {
  int max_agents = 64;           // Of one request, 1 to 64.
  int64_t max_tokens = 1 << 20;  // Of one request: caps total_tokens.
  int max_lead = 0;              // Tokens that an agent may be ahead of the family; 0 = any.
  absl::Duration deadline = absl::Minutes(10);  // Default and greatest deadline.
  // A family waits this long for a group with room for all of it, then takes one with room for
  // its minimum.
  absl::Duration place_wait = absl::Seconds(2);
  absl::Duration narrow_wait = absl::Seconds(10);  // Agents that wait, once others run.
  // Default and greatest patience of a request: how long an end may wait for those behind it.
  absl::Duration straggler_patience = absl::Seconds(30);
  absl::Duration resume_wait = absl::Seconds(20);      // From a loss to running again.
  absl::Duration retry_wait = absl::Milliseconds(50);  // After a refusal for want of room.
  absl::Duration receipt_wait = absl::Seconds(2);      // For the family's totals.

  bool operator==(const Limits&) const = default;
};

// Another model than the request's, of agents or of the aggregation pass.
struct OtherModel {
  std::string model;
  std::string fingerprint;  // The only one that will do.
  PromptProfile profile;
  std::optional<AnswerKey> answer_key;  // How its answer is found. None: it can't be.
};

// One request, resolved: nothing in it is open any more. A value; same request, description and
// limits give the same plan.
struct Plan {
  Request request;  // As it came, less what kAuto chose; its optionals are resolved below.
  Mode mode = Mode::kInstant;
  std::string model;
  std::string fingerprint;  // Of the description that it was made from: the only one that will do.
  uint64_t seed = 0;
  int64_t time_of_day = 0;
  int min_agents = 1;
  StopTest stop;
  VoteWeight vote_weight = VoteWeight::kOne;  // Of every vote of the round.
  int confidence_window = kUsualConfidenceWindow;
  int64_t probe_reserve = 0;  // Most tokens of one agent's copies; they are beside total_tokens.
  // Agent i of a round that answers is of the (i mod n)th: 0 the request's model, k others[k - 1].
  std::vector<int> models = {0};
  std::vector<OtherModel> others;
  // So many equal answers of its copies in a row end an agent; 0 = none do.
  int probes_agree = 0;
  // Stage kThinkStage, in order of id, each with its grant and budgets, nothing produced: the
  // planned maximum N. Of a wave all start together if there is room; those for whom there is none
  // wait and join later.
  std::vector<AgentRecipe> agents;
  // How many of them enter together: the first wave at clock 0, each other one when all before it
  // are counted. Their sum is N; the first is at least the minimum.
  std::vector<int> waves;
  // What each agent of another wave must be worth to the vote: 2 (1 - P) / k, P the probability
  // that the leader is likelier than the runner-up (stop_rule.h) and k the agents that entered.
  // Where another wave is not worth it, the round ends. 0: the stop rule alone ends it.
  double price = 0;
  std::optional<AnswerKey> answer_key;  // None: nothing can be compared.
  std::optional<Checker> checker;
  PromptProfile profile;
  Settings settings;  // Of every agent, for the client.
  Strategy strategy = Strategy::kSample;
  int rounds = 0;  // kRefine: behind the first, each as wide as the first was planned.
  int drafts = 0;  // kRefine: that an agent of those sees; 0 = as many as the model takes.
  int digest_bytes = 16 * 1024;     // Of what others wrote, in one prompt.
  AgentRecipe split;                // kDecompose: the one that splits the question.
  int64_t total_tokens = 0;         // Kept tokens of all agents and the aggregation pass.
  int64_t aggregation_reserve = 0;  // Of total_tokens, never granted to an agent.
  AgentRecipe synthesis;  // The aggregation pass: an agent like the others, without words.
  std::optional<OtherModel> aggregator;  // Whose that pass is; none: the agents' model's.
  absl::Duration deadline;               // From Started.
  absl::Duration patience;               // Nobody holds an end back longer.
  int group_agents = 0;  // Agents that one group, or one of each model, can run at a time.

  // Of the model that merges.
  const PromptProfile& pass_profile() const { return aggregator ? aggregator->profile : profile; }
  // Of agents of that model, and how their answers are found.
  const PromptProfile& profile_of(int of) const {
    return of == 0 ? profile : others[static_cast<size_t>(of) - 1].profile;
  }
  const std::optional<AnswerKey>& key_of(int of) const {
    return of == 0 ? answer_key : others[static_cast<size_t>(of) - 1].answer_key;
  }
};

// Resolves what a request left open: what kAuto chooses (effort.h), mode, budgets, sampling and
// answer key from the model's profile, agents from the caps.
//
// The pass that merges is of `aggregator`, in its words and within its limits; null: of the same
// model. `others`: the models besides `model` that the request's agent_models name. Each agent has
// its own model's defaults, words and key, and the same budgets: refused beyond its positions.
//
// Grants (an agent's: recipe.h): the sum of grants and the aggregation's reserve never exceeds
// total_tokens: the width is narrowed to what fits, and with AGGREGATION_AUTO the reserve shrinks
// before the width goes below the minimum (without tokens left for a synthesis, the vote decides; a
// question that is split needs the reserve for what joins its parts, and one more grant for what
// splits it). Each round of kRefine has the same width. One agent alone gets min(grant,
// total_tokens). Whether prompt + grant fits the model's positions is the worker's check. Token ids
// that the request names are checked against the model's vocabulary.
//
// kInvalidArgument (with the field's path as detail) when a value exceeds its limit, or the
// minimum of agents does not fit total_tokens, or what the agents of a later round are told (the
// messages and digest_bytes, each) exceeds 16 MiB, or seed and replay.seed differ, or the request's
// answer key or checker cannot be parsed, or kAccepted or kCheck come without a checker, or a probe
// may have more tokens than there are between two, or a pass of the aggregator leaves none of its
// positions to a prompt. kUnimplemented: a model is served by workers of an earlier version, which
// would not heed what is asked for. kAborted when a replay's decision_version is not ours, or its
// aggregation or agents had other fingerprints. A strategy that the model has no words for is
// kSample. A key that does not suit the question is no error: what cannot be compared is
// synthesised.
absl::StatusOr<Plan> MakePlan(const Request& asked, const ModelDescription& model,
                              const Limits& limits, const ModelDescription* aggregator = nullptr,
                              const std::vector<ModelDescription>& others = {});

}  // namespace conclave::router
