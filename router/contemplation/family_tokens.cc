#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "router/contemplation/course.h"

// What agents say, and the counting of their ends in token time.
namespace conclave::router {

void Contemplation::Course::Visit(const Delta& delta) {
  if (delta.attempt != attempt_ || (line_ != Line::kOpen && line_ != Line::kFinished)) return;
  Agent* agent = Find(delta.delta.agent);
  if (agent == nullptr || agent->seat != Seat::kTaken) {
    return Break(DataLoss("a delta names agent {}, which is not there",
                          static_cast<uint32_t>(delta.delta.agent)));
  }
  const absl::Status taken = Take(*agent, delta.delta);
  if (!taken.ok()) Break(taken);
}

// Tokens past a cut are taken too: they are billed as discarded.
absl::Status Contemplation::Course::Take(Agent& agent, const FamilyDelta& delta) {
  const AgentId id = agent.recipe.id;
  if (delta.first + static_cast<int64_t>(delta.tokens.size()) > agent.recipe.grant) {
    return DataLoss("agent {} went past its grant of {} tokens", static_cast<uint32_t>(id),
                    agent.recipe.grant);
  }
  const int before = agent.transcript.count();
  ASSIGN_OR_RETURN(const Transcript::Fresh fresh, agent.transcript.Append(delta));
  if (agent.transcript.count() > before) {
    losses_ = 0;
    agent.moved = now_;
  }
  if (Runs(agent)) {
    tally_.Advance(id, agent.transcript.count());
    EmitDelta(agent, fresh);
  }
  if (!delta.end) return absl::OkStatus();
  agent.seat = Seat::kLeft;
  if (!Runs(agent)) return absl::OkStatus();
  if (delta.end->cause == Finish::kCancelled) {
    return DataLoss("agent {} was cancelled unasked", static_cast<uint32_t>(id));
  }
  agent.end = delta.end->cause;
  tally_.End(id);
  return absl::OkStatus();
}

// Whether what the agent answers is the request's answer as it comes.
bool Contemplation::Course::Answers(const Agent& agent) const {
  return plan_.mode != Mode::kContemplating || StageOf(agent.recipe.id) == kAggregateStage;
}

void Contemplation::Course::EmitDelta(const Agent& agent, const Transcript::Fresh& fresh) {
  const Include& include = plan_.request.include;
  AgentDelta delta{.thinking = {}, .answer = {}, .tokens = {}, .count = agent.transcript.count()};
  if (include.thinking) delta.thinking = fresh.thinking;
  if (include.agent_answers) delta.answer = fresh.answer;
  if (include.tokens) {
    for (int i = fresh.first; i < agent.transcript.count(); ++i) {
      delta.tokens.push_back(agent.transcript.tokens()[i].token);
    }
  }
  if (!delta.thinking.empty() || !delta.answer.empty() || !delta.tokens.empty()) {
    EmitEvent(agent.recipe.id, std::move(delta));
  }
  if (!Answers(agent) || fresh.answer.empty()) return;
  first_answer_ = std::min(first_answer_, now_);
  EmitEvent(agent.recipe.id, AnswerDelta{.text = std::string(fresh.answer)});
}

std::optional<std::string> Contemplation::Course::Extract(const Agent& agent) const {
  if (!plan_.answer_key) return std::nullopt;
  return plan_.answer_key->Extract(agent.transcript.AnswerAt(*agent.kept));
}

// Counts what can be counted and takes what a replay's script says, in order of the family's clock.
void Contemplation::Course::AdvanceRound() {
  while (stage_ == Stage::kThink) {
    if (script_ && TakeFromScript()) continue;
    const std::optional<AgentId> next = tally_.NextCountable();
    if (stage_ != Stage::kThink || !next) break;
    const Decision* script = script_ ? script_->next() : nullptr;
    if (script != nullptr && tally_.ClockOf(*next) > script->clock) break;
    CountEnd(*next, /*look=*/true);
  }
  if (stage_ != Stage::kThink) return;
  const bool anyone = tally_.Any(Tally::State::kRuns) || tally_.Any(Tally::State::kEnded) ||
                      !Waiting().empty() || (script_ && script_->next() != nullptr);
  if (!anyone) EndRound(tally_.clock());
}

void Contemplation::Course::CountEnd(AgentId id, bool look) {
  Agent& agent = At(id);
  tally_.Count(id);
  const int64_t clock = tally_.ClockOf(id);
  agent.kept = agent.transcript.count();
  reached_ = std::max(reached_, clock);
  const bool votes = stage_ == Stage::kThink && plan_.mode == Mode::kContemplating;
  const std::optional<std::string> answer = Extract(agent);
  agent.answer = answer;
  if (stage_ == Stage::kThink) counted_.push_back(id);
  if (votes && answer) ballot_.Add(id, *answer);
  EmitEvent(id, AgentFinished{.reason = *agent.end,
                              .answer = answer,
                              .confidence = agent.transcript.Confidence(),
                              .tokens = *agent.kept});
  if (votes) EmitVotes();
  if (look) LookAtStopRule(clock);
}

int Contemplation::Course::ToCome() const {
  return std::max(0, planned_ - static_cast<int>(counted_.size()) - dropped_);
}

// True when the rule cut the others.
bool Contemplation::Course::LookAtStopRule(int64_t clock) {
  if (stage_ != Stage::kThink || plan_.mode != Mode::kContemplating) return false;
  if (plan_.request.stop_rule != StopRule::kSettled || !Settled(ballot_, ToCome())) return false;
  Stop(clock);
  return true;
}

void Contemplation::Course::CutAgents(const std::vector<Cut>& cuts, CutReason reason) {
  std::vector<AgentId> cancelled;
  for (const Cut& cut : cuts) {
    Agent& agent = At(cut.agent);
    tally_.Cut(cut.agent, cut.kept);
    agent.kept = cut.kept;
    cancelled.push_back(cut.agent);
    EmitEvent(cut.agent, AgentCut{.reason = reason, .kept = cut.kept});
  }
  Cancel(cancelled);
}

void Contemplation::Course::EmitVotes() {
  if (!plan_.request.include.votes) return;
  EmitEvent({}, VoteUpdate{.votes = ballot_.Votes(),
                           .counted = static_cast<int>(counted_.size()),
                           .to_come = ToCome(),
                           .stop_value = static_cast<double>(ballot_.lead() - ToCome())});
}

}  // namespace conclave::router
