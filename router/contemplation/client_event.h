#pragma once

#include <absl/time/time.h>

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/answer/checker.h"
#include "common/generation.h"
#include "router/contemplation/request.h"

// The public stream's events and the receipt, in common terms; conclave.proto says what each field
// means.
namespace conclave::router {

struct Admitted {
  std::string request_id;
  std::string model;
  uint64_t seed = 0;
  Mode mode = Mode::kInstant;
  int agents = 1;
  std::string fingerprint;
  int64_t time_of_day = 0;
  int decision_version = 0;
  std::string aggregator_fingerprint = {};  // Empty: no other model may aggregate.
  // Of each of the request's agent_models.
  std::vector<std::string> agent_fingerprints = {};
};

struct AgentStarted {
  int prompt_tokens = 0;
  int grant = 0;
  std::string model = {};  // Another one than the request's; empty: that.
};

// Holds only what the request includes.
struct AgentDelta {
  std::string thinking;
  std::string answer;
  std::vector<TokenEvent> tokens;
  int count = 0;
};

struct AgentFinished {
  Finish reason = Finish::kStop;  // kStop, kLength or kBar.
  std::optional<std::string> answer;
  double confidence = 0;
  int tokens = 0;
  double top20_confidence = 0;
  double lowest_window_confidence = 0;
  double weight = 0;
  StopCause stopped_by = {};  // With kStop; kNone where the worker did not say.
  bool thinking_forced = false;
  bool probes_agreed = false;
};

// What the checker says of a counted answer.
using CheckerVerdict = Verdict;

enum class CutReason : uint8_t { kSettled, kDeadline, kDropped, kStopped };

struct AgentCut {
  CutReason reason = CutReason::kSettled;
  int kept = 0;
};

struct Vote {
  std::string answer;
  double weight = 0;
  int count = 0;

  bool operator==(const Vote&) const = default;
};

struct VoteUpdate {
  std::vector<Vote> votes;
  int counted = 0;
  int to_come = 0;
  double stop_value = 0;
};

struct AggregationStarted {
  Aggregation method = Aggregation::kSynthesise;
  int candidates = 0;
  std::string model = {};  // Another one than the agents'; empty: theirs.
};

struct AnswerDelta {
  std::string text;
};

// What an agent would answer now.
struct ProbeAnswer {
  int at = 0;
  std::optional<std::string> answer;
  int tokens = 0;
};

struct GroupChanged {
  std::string reason;
  bool resumed = false;
};

struct PromptUsage {
  int64_t total = 0, computed = 0, shared = 0, first = 0, recomputed = 0;
};

struct AgentUsage {
  AgentId agent{};
  int prompt_tokens = 0;
  int kept = 0;
  int thinking = 0;
  int discarded = 0;
  bool cut = false;
  Finish reason = Finish::kStop;  // Meaningless when cut.
  std::optional<std::string> answer;
  double weight = 0;
  double lowest_window_confidence = 0;
  StopCause stopped_by = {};  // Of `reason`, with kStop.
  bool thinking_forced = false;
  CutReason cut_reason = CutReason::kSettled;  // Meaningless when not cut.
  std::optional<bool> accepted = {};           // By the checker; none: it was not looked at.
  bool probes_agreed = false;                  // On its answer, with which it ended.
  std::string model = {};                      // Another one than the request's; empty: that.
};

struct Receipt {
  std::string request_id;
  std::string model;
  std::string fingerprint;
  int decision_version = 0;
  uint64_t seed = 0;
  int64_t time_of_day = 0;
  std::string result_hash;
  PromptUsage prompt;
  std::vector<AgentUsage> agents;  // In order of id.
  int64_t thinking_tokens = 0;
  int64_t answer_tokens = 0;
  int64_t aggregation_tokens = 0;
  int64_t discarded_tokens = 0;
  int agents_cut = 0;
  int64_t critical_path_tokens = 0;
  absl::Duration time_to_first_answer;
  absl::Duration wall_time;
  std::vector<Decision> decisions;
  std::vector<Vote> votes;
  int resumes = 0;
  bool counts_from_stream = false;
  int64_t probe_tokens = 0;
  // Another model's that might aggregate, and did where the pass is among the agents.
  std::string aggregator_model = {}, aggregator_fingerprint = {};
  // As asked for, and what served them; empty: all agents were of `model`.
  std::vector<std::string> agent_models = {}, agent_fingerprints = {};
};

// What a request cost, with a receipt or without.
struct Bill {
  int64_t tokens = 0;  // Of all agents, whatever became of them.
  int64_t probe_tokens = 0;
  PromptUsage prompt = {};
};

// What agents were told; nothing in it is open.
struct Settings {
  Sampling sampling;
  Budget budget;
  std::vector<TokenId> end_tokens;  // The model's own.
  std::vector<TokenId> stop_tokens;
  std::vector<std::string> stop;
};

struct Completed {
  std::string answer;
  bool incomplete = false;
  std::optional<Aggregation> method;  // Not kAuto; none: there was one agent.
  std::optional<bool> accepted = {};  // By the checker; none: it was not looked at.
  Receipt receipt;
  Settings settings;
};

struct ClientEvent {
  int64_t sequence = 0;  // Given by ClientOutbox when the event leaves: 1, 2, ...
  AgentId agent{};       // Meaningless for events of the family.
  std::variant<Admitted, AgentStarted, AgentDelta, AgentFinished, AgentCut, VoteUpdate, Decision,
               AggregationStarted, AnswerDelta, Completed, GroupChanged, CheckerVerdict,
               ProbeAnswer>
      what;
};

}  // namespace conclave::router
