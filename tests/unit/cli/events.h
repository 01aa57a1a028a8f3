#pragma once

#include <string>
#include <vector>

#include "conclave/v1/conclave.pb.h"

// Events as a router sends them, for tests.
namespace conclave::cli {

inline constexpr uint32_t kSynthesiser = 1u << 24;
inline constexpr uint32_t kSplitter = 2u << 24;
// From 0, as on the wire.
constexpr uint32_t OfRound(int round, int index) {
  return static_cast<uint32_t>(round << 16 | index);
}
constexpr uint32_t OfPart(int part, int index) { return 3u << 24 | OfRound(part, index); }

inline v1::GenerateResponse Admitted(int agents) {
  v1::GenerateResponse event;
  event.mutable_admitted()->set_request_id("r1");
  event.mutable_admitted()->set_model("demo");
  event.mutable_admitted()->set_seed(7);
  event.mutable_admitted()->set_agents(agents);
  return event;
}

inline v1::GenerateResponse Started(uint32_t agent, int grant = 400) {
  v1::GenerateResponse event;
  event.set_agent(agent);
  event.mutable_agent_started()->set_grant(grant);
  return event;
}

inline v1::GenerateResponse Thinking(uint32_t agent, const std::string& text, int count = 1) {
  v1::GenerateResponse event;
  event.set_agent(agent);
  event.mutable_agent_delta()->set_thinking(text);
  event.mutable_agent_delta()->set_count(count);
  return event;
}

inline v1::GenerateResponse Answering(uint32_t agent, const std::string& text, int count = 1) {
  v1::GenerateResponse event;
  event.set_agent(agent);
  event.mutable_agent_delta()->set_answer(text);
  event.mutable_agent_delta()->set_count(count);
  return event;
}

inline v1::GenerateResponse Finished(uint32_t agent, const std::string& answer, int tokens) {
  v1::GenerateResponse event;
  event.set_agent(agent);
  event.mutable_agent_finished()->set_reason(v1::FINISH_REASON_STOP);
  event.mutable_agent_finished()->set_answer(answer);
  event.mutable_agent_finished()->set_confidence(0.93);
  event.mutable_agent_finished()->set_tokens(tokens);
  return event;
}

inline v1::GenerateResponse Cut(uint32_t agent, int kept) {
  v1::GenerateResponse event;
  event.set_agent(agent);
  event.mutable_agent_cut()->set_reason(v1::CUT_REASON_SETTLED);
  event.mutable_agent_cut()->set_kept(kept);
  return event;
}

// Answers with their counts, most first.
inline v1::GenerateResponse VoteOf(const std::vector<std::pair<std::string, int>>& votes,
                                   int to_come, double stop_value) {
  v1::GenerateResponse event;
  v1::VoteUpdate& update = *event.mutable_vote_update();
  int counted = 0;
  for (const auto& [answer, count] : votes) {
    v1::Vote& vote = *update.add_votes();
    vote.set_answer(answer);
    vote.set_count(count);
    vote.set_weight(count);
    counted += count;
  }
  update.set_counted(counted);
  update.set_to_come(to_come);
  update.set_stop_value(stop_value);
  return event;
}

inline v1::GenerateResponse Probed(uint32_t agent, int at, const std::string& answer) {
  v1::GenerateResponse event;
  event.set_agent(agent);
  event.mutable_probe_answer()->set_at(at);
  if (!answer.empty()) event.mutable_probe_answer()->set_answer(answer);
  event.mutable_probe_answer()->set_tokens(9);
  return event;
}

// Accepted without a reason.
inline v1::GenerateResponse Verdict(uint32_t agent, const std::string& reason) {
  v1::GenerateResponse event;
  event.set_agent(agent);
  event.mutable_checker_verdict()->set_accepted(reason.empty());
  event.mutable_checker_verdict()->set_reason(reason);
  return event;
}

inline v1::GenerateResponse AnswerText(const std::string& text, uint32_t agent = 0) {
  v1::GenerateResponse event;
  event.set_agent(agent);
  event.mutable_answer_delta()->set_text(text);
  return event;
}

inline v1::GenerateResponse Completed(const std::string& answer) {
  v1::GenerateResponse event;
  event.mutable_completed()->set_answer(answer);
  return event;
}

}  // namespace conclave::cli
