#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "conclave/v1/conclave.pb.h"

namespace conclave::cli {

// What is known of one agent.
struct AgentRow {
  enum class State { kWaiting, kThinking, kAnswering, kDone, kCut, kLeftOut };
  State state = State::kWaiting;
  int tokens = 0;    // Produced so far; once it ended, the ones that it keeps.
  int grant = 0;     // Most that it may produce; 0 = not known.
  std::string text;  // The end of what it wrote last, its thinking or its answer. Any bytes.
  v1::AgentFinished finished;  // Set when kDone.
  v1::CutReason cut = v1::CUT_REASON_UNSPECIFIED;
};

// What a client knows of its request: the sum of the events that came. A value; memory is bounded
// by the number of agents and the length of the answer. One thread.
class Round {
 public:
  // REQUIRES: events in the order in which they came.
  void On(const v1::GenerateResponse& event);

  const v1::Admitted& admitted() const { return admitted_; }  // Without id until admitted.
  // Agents by id, the planned ones that have not entered included.
  const std::map<uint32_t, AgentRow>& agents() const { return agents_; }
  const v1::VoteUpdate& vote() const { return vote_; }
  // The answer as far as it came. Any bytes.
  const std::string& answer() const { return answer_; }
  // The last decision or change of the group in words; may be empty. Any bytes.
  const std::string& notice() const { return notice_; }
  bool is_complete() const { return complete_; }
  const v1::Completed& completed() const { return completed_; }  // Set when complete.

  // How many agents are in `state`.
  int Count(AgentRow::State state) const;
  // Tokens of all agents together.
  int64_t Tokens() const;

 private:
  void OnAdmitted(const v1::Admitted& admitted);
  void OnDelta(AgentRow& agent, const v1::AgentDelta& delta);
  void OnAnswer(uint32_t id, const std::string& text);
  void OnCompleted(const v1::Completed& completed);

  v1::Admitted admitted_;
  std::map<uint32_t, AgentRow> agents_;
  v1::VoteUpdate vote_;
  std::string answer_, notice_;
  bool complete_ = false;
  v1::Completed completed_;
};

// What is known of a request that ended without a receipt, as a short table for people: lines that
// end with '\n'.
std::string KnownText(const Round& round);

}  // namespace conclave::cli
