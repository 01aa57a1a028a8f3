#pragma once

#include <absl/status/statusor.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "conclave/v1/conclave.pb.h"

namespace conclave::cli {

// Parts of a family's token time at which its answer so far is looked at: 0.1, 0.2, ... 1.
inline constexpr int kFractions = 10;

// What one agent of the vote came to, in the order in which ends were counted.
struct AgentOutcome {
  uint32_t agent = 0;
  std::optional<std::string> answer;  // As the key found it.
  bool right = false;
  int tokens = 0;         // Kept.
  double confidence = 0;  // Mean probability of its chosen tokens; 0: not told (a single agent).
};

// What one question came to in one arm: a line of the file that is kept.
struct Outcome {
  std::string arm, problem;
  std::string error;   // The status's code and message; empty: it was answered.
  std::string answer;  // As the key found it, of a long one the beginning.
  bool right = false;
  bool incomplete = false;           // A deadline, a budget or a loss ended it.
  std::string method;                // How the answer was found: "VOTE"; empty of a single agent.
  std::vector<AgentOutcome> agents;  // That ran to their end and may vote.
  int left_out = 0;                  // Agents that found no room, or were lost.
  int entered = 0, cut = 0;          // All agents, the aggregation pass included.
  int64_t kept = 0;                  // Tokens of all agents.
  int64_t aggregation = 0;           // Of these: the aggregation pass's.
  int64_t probes = 0, discarded = 0;
  int64_t prompt = 0, prompt_computed = 0;
  int64_t critical_path = 0;
  double seconds = 0;  // From sending it (the last time, if it was refused before) to its end.
  double first_seconds = 0;                 // From admission to the answer's first byte.
  int tries = 1;                            // How often it was sent.
  std::array<bool, kFractions> early = {};  // Whether the answer so far was right.

  int64_t total() const { return kept + discarded + probes; }
};

std::string OutcomeToJson(const Outcome& outcome);  // One line, without its end.
// kInvalidArgument when it is none.
absl::StatusOr<Outcome> OutcomeFromJson(std::string_view line);

// Makes an outcome of a stream's events. One thread.
class Watcher {
 public:
  // Grades an answer as the key found it.
  using IsRight = std::function<bool(std::string_view answer)>;
  explicit Watcher(IsRight is_right) : is_right_(std::move(is_right)) {}

  void On(const v1::GenerateResponse& event);

  // The end; null until it came.
  const v1::Completed* completed() const { return complete_ ? &completed_ : nullptr; }

  // What the events say: all but arm, problem, error, answer and the client's own times. `right`:
  // the answer is. REQUIRES: completed().
  Outcome Take(bool right) const;

 private:
  // What an agent thinks from `clock` on.
  struct Opinion {
    int64_t clock = 0;
    uint32_t agent = 0;
    std::string answer;
    bool accepted = false;  // By the checker.
  };
  struct Ended {
    uint32_t agent = 0;
    std::optional<std::string> answer;
    int tokens = 0;
    double confidence = 0;
  };

  void OnDecision(const v1::Decision& decision);
  void OnFinished(uint32_t agent, const v1::AgentFinished& finished);
  // The answer that would have been given at `clock`; empty: none.
  std::string AnswerAt(int64_t clock) const;
  void AddAgents(Outcome& outcome) const;

  IsRight is_right_;
  int64_t clock_ = 0;  // The family's, at the last counted end.
  std::map<uint32_t, int64_t> starts_;
  std::vector<Opinion> opinions_;  // In the order in which they came.
  std::vector<Ended> ended_;       // In order of counting.
  bool complete_ = false;
  v1::Completed completed_;
};

}  // namespace conclave::cli
