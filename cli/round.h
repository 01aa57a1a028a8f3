#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

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
  std::string probed;            // What it would answer, asked last; empty: nothing. Any bytes.
  std::optional<bool> accepted;  // The checker's verdict on its answer.
};

// Something that the clock, the load or a failure did, in words. Any bytes.
struct Notice {
  std::string text;
  bool is_bad = false;  // Something was lost.
};

// What a client knows of its request: the sum of the events that came. A value; memory is bounded
// by the number of agents and the length of the answer. One thread.
class Round {
 public:
  // REQUIRES: events in the order in which they came.
  void On(const v1::GenerateResponse& event);
  // The person who asked wants it to end.
  void Stop() { stopping_ = true; }

  const v1::Admitted& admitted() const { return admitted_; }  // Without id until admitted.
  // Agents by id, the planned ones that have not entered included.
  const std::map<uint32_t, AgentRow>& agents() const { return agents_; }
  const v1::VoteUpdate& vote() const { return vote_; }
  // The answer as far as it came. Any bytes.
  const std::string& answer() const { return answer_; }
  // Decisions and changes of the group in the order in which they came; the last 64.
  const std::vector<Notice>& notices() const { return notices_; }
  // True from Stop() to the end.
  bool is_stopping() const { return stopping_ && !complete_; }
  bool is_complete() const { return complete_; }
  const v1::Completed& completed() const { return completed_; }  // Set when complete.

  // How many agents are in `state`.
  int Count(AgentRow::State state) const;
  // Tokens of all agents together.
  int64_t Tokens() const;

 private:
  void OnAdmitted(const v1::Admitted& admitted);
  void ForgetWhole();
  void OnDelta(AgentRow& agent, const v1::AgentDelta& delta);
  void OnAnswer(uint32_t id, const std::string& text);
  void OnCompleted(const v1::Completed& completed);
  void AddNotice(Notice notice);

  v1::Admitted admitted_;
  std::map<uint32_t, AgentRow> agents_;
  v1::VoteUpdate vote_;
  std::string answer_;
  std::vector<Notice> notices_;
  bool stopping_ = false, complete_ = false;
  v1::Completed completed_;
};

// What is known of a request that ended without a receipt, as a short table for people: lines that
// end with '\n'.
std::string KnownText(const Round& round);

}  // namespace conclave::cli
