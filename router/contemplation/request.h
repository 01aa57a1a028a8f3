#pragma once

#include <absl/time/time.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/answer/answer_key.h"
#include "common/answer/checker.h"
#include "common/chat.h"
#include "common/types.h"

// What a client asks for, in common terms: GenerateRequest after its form was checked. Optionals
// are what the client left open; MakePlan closes them.
namespace conclave::router {

enum class Mode : uint8_t { kInstant, kThinking, kContemplating };
// How agents share the work. In the order of the API's.
enum class Strategy : uint8_t { kSample, kRoles, kDecompose, kRefine, kAuto };
enum class Effort : uint8_t { kLow, kMedium, kHigh };
enum class StopRule : uint8_t { kNone, kSettled, kBeta, kWindow, kFirst, kQuorum, kAccepted };
enum class Aggregation : uint8_t { kAuto, kVote, kSynthesise, kWeightedVote, kSelect, kCheck };
// What a vote weighs; vote_weight.h says how.
enum class VoteWeight : uint8_t {
  kOne,
  kMeanProbability,
  kTop20Mean,
  kTop20LowestWindow,
  kTraceProbability
};
enum class OnLoss : uint8_t { kResume, kContinue, kFail };

// Where an agent was cut: it keeps its first `kept` tokens.
struct Cut {
  AgentId agent{};
  int kept = 0;

  bool operator==(const Cut&) const = default;
};

// What the wall clock, the load or a failure did. It takes effect after the ends with clock <=
// `clock` and before all later ones, in order of number; with the seed, a request's decisions
// replay to the same bytes.
struct Decision {
  enum class Kind : uint8_t { kJoin, kNarrow, kDrop, kDeadline, kStopNow };
  int number = 0;  // From 1.
  Kind kind = Kind::kJoin;
  int64_t clock = 0;  // The family's, in tokens, when it was taken.
  // kJoin: who enters. kNarrow, kDeadline, kStopNow: who waited and never will. kDrop: who is
  // given up. In order of id.
  std::vector<AgentId> agents;
  std::vector<Cut> cuts;  // kDrop, kDeadline, kStopNow: those that still ran, in order of id.

  bool operator==(const Decision&) const = default;
};

// A receipt's words that lead to the same bytes.
struct ReplaySpec {
  uint64_t seed = 0;
  int64_t time_of_day = 0;
  std::string fingerprint;
  std::string aggregator_fingerprint;           // Empty: that of the agents, or not compared.
  std::vector<std::string> agent_fingerprints;  // Of each of agent_models. Empty: not compared.
  int decision_version = 0;
  std::vector<Decision> decisions;
  std::string result_hash;  // Hex. Empty: not compared.
};

// Sampling fields that the client set; the others are the model's own.
struct SamplingChoice {
  std::optional<float> temperature, top_p, min_p;
  std::optional<int> top_k;
  std::optional<float> repetition_penalty, presence_penalty, frequency_penalty;
  std::vector<std::pair<TokenId, float>> logit_bias;  // Replaces the model's when not empty.
};

// Agents are asked for their answers so far.
struct ProbeChoice {
  int every = 0;  // Drawn tokens of thinking.
  std::optional<int> answer_tokens;
  std::optional<int> agree;  // So many equal answers in a row end an agent.
};

// What the stream carries besides the events that it always has.
struct Include {
  bool thinking = false;
  bool agent_answers = false;
  bool tokens = false;
  bool votes = false;
};

struct Request {
  std::string id;
  std::string model;
  std::vector<Message> messages;  // The last one is the user's.
  std::optional<Mode> mode;       // Open: thinking where the model can, else instant.
  std::optional<int> min_agents;  // For contemplating only.
  std::optional<int> max_agents;
  Strategy strategy = Strategy::kSample;  // For contemplating only.
  std::optional<int> rounds;              // kRefine: further ones.
  std::optional<int> drafts;              // kRefine: that an agent of those sees.
  std::optional<int> digest_bytes;        // For contemplating only.
  std::vector<std::string> roles;   // Agent i is told the (i mod n)th. For contemplating only.
  std::vector<float> temperatures;  // Agent i draws at the (i mod n)th. For contemplating only.
  // Agent i is of the (i mod n)th of these served models; the first one is `model`. Empty: all are
  // of that. For contemplating only.
  std::vector<std::string> agent_models;
  std::optional<int> wave;          // Agents that enter together. For contemplating only.
  Effort effort = Effort::kMedium;  // kAuto.
  StopRule stop_rule = StopRule::kSettled;
  std::optional<double> stop_certainty;    // kBeta.
  std::optional<int> stop_votes;           // kWindow, kFirst, kQuorum.
  std::optional<absl::Duration> patience;  // With those that hold others back.
  Aggregation aggregation = Aggregation::kAuto;
  std::string aggregator_model;           // Whose the last pass is. Empty: the same.
  std::optional<double> confidence_bar;   // For contemplating only. Above 0.
  std::optional<int> confidence_window;   // For contemplating only.
  std::optional<VoteWeight> vote_weight;  // kWeightedVote; not kOne.
  std::optional<ProbeChoice> probes;      // For contemplating only.
  std::optional<int> thinking_tokens;
  std::optional<int> answer_tokens;
  std::optional<int> min_tokens;
  std::optional<int64_t> total_tokens;
  std::optional<absl::Duration> deadline;  // From admission.
  SamplingChoice sampling;
  uint64_t seed = 0;
  bool seed_given = false;  // False: the seed was drawn.
  std::optional<AnswerKeySpec> answer_key;
  std::optional<CheckerSpec> checker;  // For contemplating only.
  std::vector<std::string> stop;
  std::vector<TokenId> stop_tokens;
  std::optional<int> top_logprobs;  // Set: deltas carry tokens, each told.
  Include include;
  OnLoss on_loss = OnLoss::kResume;
  std::optional<ReplaySpec> replay;
  int64_t time_of_day = 0;  // Seconds since 1970: what the chat template sees.
  std::string salt;         // Of the prefix cache: the tenant's.
};

}  // namespace conclave::router
