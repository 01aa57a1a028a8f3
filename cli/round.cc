#include "cli/round.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "cli/receipt_text.h"
#include "cli/terminal_text.h"
#include "common/types.h"

namespace conclave::cli {
namespace {

using State = AgentRow::State;

constexpr size_t kMaxText = 4096;  // Bytes of an agent's text: more than a terminal is wide.
constexpr size_t kMaxNotices = 64;
constexpr int kMaxPlanned = 1024;  // Far above what the API allows; a server is not trusted.

// Keeps the end of `text`, from the beginning of a character on.
void Shorten(std::string& text) {
  if (text.size() <= kMaxText) return;
  size_t begin = text.size() - kMaxText / 2;
  while (begin < text.size() && (static_cast<unsigned char>(text[begin]) & 0xc0u) == 0x80u) ++begin;
  text.erase(0, begin);
}

void Append(std::string& text, const std::string& more) {
  text += more;
  Shorten(text);
}

}  // namespace

void Round::OnAdmitted(const v1::Admitted& admitted) {
  admitted_ = admitted;
  for (int i = 0; i < std::min(admitted.agents(), kMaxPlanned); ++i) {
    agents_.try_emplace(static_cast<uint32_t>(MakeAgentId(kThinkStage, 0, i)));
  }
}

// The question is asked in parts: who might have answered it as a whole is not waited for.
void Round::ForgetWhole() {
  std::erase_if(agents_, [](const auto& entry) {
    return StageOf(AgentId{entry.first}) == kThinkStage && entry.second.state == State::kWaiting;
  });
}

void Round::OnDelta(AgentRow& agent, const v1::AgentDelta& delta) {
  if (!delta.thinking().empty()) Append(agent.text, delta.thinking());
  if (!delta.answer().empty()) {
    if (agent.state != State::kAnswering) agent.text.clear();
    agent.state = State::kAnswering;
    Append(agent.text, delta.answer());
  }
  agent.tokens = std::max(agent.tokens, delta.count());
}

void Round::OnAnswer(uint32_t id, const std::string& text) {
  answer_ += text;
  const auto found = agents_.find(id);  // Who writes the answer, when one of them does.
  if (found == agents_.end()) return;
  AgentRow& agent = found->second;
  if (agent.state == State::kThinking) {
    agent.state = State::kAnswering;
    agent.text.clear();
  }
  if (agent.state == State::kAnswering) Append(agent.text, text);
}

void Round::OnCompleted(const v1::Completed& completed) {
  complete_ = true;
  completed_ = completed;
  answer_ = completed.answer();
  for (auto& [id, agent] : agents_) {
    if (agent.state == State::kWaiting) agent.state = State::kLeftOut;
    const bool running = agent.state == State::kThinking || agent.state == State::kAnswering;
    if (running) agent.state = State::kDone;  // Its end is the request's: no event of its own.
  }
  for (const v1::AgentUsage& usage : completed.receipt().agents()) {
    if (const auto found = agents_.find(usage.agent()); found != agents_.end()) {
      found->second.tokens = usage.kept();
    }
  }
}

void Round::On(const v1::GenerateResponse& event) {
  const auto agent = [this, &event]() -> AgentRow& { return agents_[event.agent()]; };
  switch (event.event_case()) {
    case v1::GenerateResponse::kAdmitted:
      return OnAdmitted(event.admitted());
    case v1::GenerateResponse::kAgentStarted:
      agent().state = State::kThinking;
      agent().grant = event.agent_started().grant();
      if (StageOf(AgentId{event.agent()}) == kPartStage) ForgetWhole();
      return;
    case v1::GenerateResponse::kAgentDelta:
      return OnDelta(agent(), event.agent_delta());
    case v1::GenerateResponse::kAgentFinished:
      agent().state = State::kDone;
      agent().tokens = event.agent_finished().tokens();
      agent().finished = event.agent_finished();
      return;
    case v1::GenerateResponse::kAgentCut:
      agent().state = State::kCut;
      agent().tokens = event.agent_cut().kept();
      agent().cut = event.agent_cut().reason();
      return;
    case v1::GenerateResponse::kProbeAnswer:
      agent().probed = event.probe_answer().answer();
      return;
    case v1::GenerateResponse::kCheckerVerdict:
      agent().accepted = event.checker_verdict().accepted();
      return;
    case v1::GenerateResponse::kVoteUpdate:
      vote_ = event.vote_update();
      return;
    case v1::GenerateResponse::kDecision:
      return AddNotice({DecisionText(event.decision())});
    case v1::GenerateResponse::kGroupChanged:
      return AddNotice({event.group_changed().reason(), !event.group_changed().resumed()});
    case v1::GenerateResponse::kAnswerDelta:
      return OnAnswer(event.agent(), event.answer_delta().text());
    case v1::GenerateResponse::kCompleted:
      return OnCompleted(event.completed());
    case v1::GenerateResponse::kAggregationStarted:
      return AddNotice({"the synthesiser " + MergingText(event.aggregation_started())});
    case v1::GenerateResponse::EVENT_NOT_SET:
      return;
  }
}

void Round::AddNotice(Notice notice) {
  if (notices_.size() == kMaxNotices) notices_.erase(notices_.begin());
  notices_.push_back(std::move(notice));
}

int Round::Count(AgentRow::State state) const {
  return static_cast<int>(std::count_if(agents_.begin(), agents_.end(), [state](const auto& entry) {
    return entry.second.state == state;
  }));
}

int64_t Round::Tokens() const {
  int64_t sum = 0;
  for (const auto& [id, agent] : agents_) sum += agent.tokens;
  return sum;
}

std::string KnownText(const Round& round) {
  if (round.admitted().request_id().empty()) return "no receipt: the request was not admitted\n";
  std::string text = "no receipt came; what was received until then\n";
  text += fmt::format("  {:<14} {}  seed {}\n", "request", OneLine(round.admitted().request_id()),
                      round.admitted().seed());
  text += fmt::format("  {:<14} {}\n", "model", OneLine(round.admitted().model()));
  text += fmt::format("  {:<14} {} done, {} cut, {} running, {} waiting\n", "agents",
                      round.Count(State::kDone), round.Count(State::kCut),
                      round.Count(State::kThinking) + round.Count(State::kAnswering),
                      round.Count(State::kWaiting));
  text += fmt::format("  {:<14} {}\n", "tokens", round.Tokens());
  for (const Notice& notice : round.notices()) {
    text += fmt::format("  {:<14} {}\n", "notice", OneLine(notice.text));
  }
  for (const v1::Vote& vote : round.vote().votes()) {
    text +=
        fmt::format("  {:<14} {} for {}\n", "vote", vote.count(), Fit(OneLine(vote.answer()), 60));
  }
  text += fmt::format("  {:<14} {}\n", "answer",
                      round.answer().empty() ? "none of it" : "its beginning, above");
  return text;
}

}  // namespace conclave::cli
