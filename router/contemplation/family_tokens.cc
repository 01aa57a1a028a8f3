#include <algorithm>
#include <utility>

#include "common/answer/normalise.h"
#include "common/check.h"
#include "common/status.h"
#include "router/contemplation/course.h"

// What agents say, and the counting of their ends in token time.
namespace conclave::router {

namespace {

// Tokens are put only to end thinking, when its budget is used: before that a group that says so
// lies, or has another model than it says. (Thinking's own tokens may begin later than the agent's,
// so what comes behind cannot be told.)
absl::Status CheckForced(const AgentRecipe& recipe, const FamilyDelta& delta) {
  const int budget = recipe.budget.thinking_tokens;
  for (size_t i = 0; i < delta.tokens.size(); ++i) {
    if (delta.tokens[i].token.kind != TokenKind::kForced) continue;
    const int64_t index = delta.first + static_cast<int64_t>(i);
    if (budget == 0) return DataLoss("token {} was put; it has no thinking to end", index);
    if (index < budget) {
      return DataLoss("token {} was put; it may think for {} tokens", index, budget);
    }
  }
  return absl::OkStatus();
}

}  // namespace

void Contemplation::Course::Visit(const Delta& delta) {
  if (delta.attempt != attempt_ || (line_ != Line::kOpen && line_ != Line::kFinished)) return;
  Agent* agent = Find(delta.delta.agent);
  if (agent == nullptr || agent->seat != Seat::kTaken || agent->model != delta.place) {
    return Break(DataLoss("tokens of agent {}, which does not run",
                          static_cast<uint32_t>(delta.delta.agent)));
  }
  if (const absl::Status status = Take(*agent, delta.delta); !status.ok()) {
    Break(Annotate(status, fmt::format("agent {}", static_cast<uint32_t>(delta.delta.agent))));
  }
}

absl::Status Contemplation::Course::Take(Agent& agent, const FamilyDelta& delta) {
  const std::optional<int> cut = script_ ? script_->CutOf(agent.recipe.id) : std::nullopt;
  const int most = Runs(agent) && cut ? *cut : agent.recipe.grant;
  if (delta.first + static_cast<int64_t>(delta.tokens.size()) > most) {
    return DataLoss("token {} is beyond {}",
                    delta.first + static_cast<int64_t>(delta.tokens.size()), most);
  }
  if (delta.end && delta.end->cause == Finish::kCancelled && Runs(agent) &&
      agent.transcript.count() != cut) {
    return Unavailable("it was cancelled by its group");
  }
  RETURN_IF_ERROR(CheckForced(agent.recipe, delta));
  ASSIGN_OR_RETURN(const Transcript::Fresh fresh, agent.transcript.Append(delta));
  const int count = agent.transcript.count();
  if (delta.end && delta.end->cause != Finish::kCancelled && count == fresh.first && Runs(agent)) {
    // When it is counted would depend on when it came.
    return DataLoss("its end came without its last token");
  }
  if (delta.end) agent.seat = Seat::kLeft;
  if (count > fresh.first) {
    losses_ = 0;
    agent.moved = now_;
  }
  if (!Runs(agent)) return absl::OkStatus();
  // Whoever's copies agreed is at its end there, however much more has come.
  const int reached = std::min(count, agent.asked.ends_at.value_or(count));
  tally_.Advance(agent.recipe.id, reached);
  if (count > fresh.first) EmitDelta(agent, fresh);
  if (cut == count && reached == count) {
    // All that the replay needs of it. Until its cut is taken it runs, without holding a place.
    if (count > fresh.first) Cancel({agent.recipe.id});
  } else if (delta.end && reached == count) {
    agent.end = delta.end->cause;
    agent.stopped_by = delta.end->stopped_by;
    tally_.End(agent.recipe.id);
  } else {
    EndAgreed(agent);
  }
  return absl::OkStatus();
}

// Whether its answer is the request's, as it comes.
bool Contemplation::Course::Answers(const Agent& agent) const {
  return plan_.mode != Mode::kContemplating ||
         (StageOf(agent.recipe.id) == kAggregateStage && !Selects());
}

void Contemplation::Course::EmitDelta(const Agent& agent, const Transcript::Fresh& fresh) {
  const AgentId id = agent.recipe.id;
  const Include& include = plan_.request.include;
  AgentDelta delta;
  if (include.thinking) delta.thinking = fresh.thinking;
  if (include.agent_answers && !Answers(agent)) delta.answer = fresh.answer;
  if (include.tokens) {
    for (const TextToken& token : fresh.tokens) delta.tokens.push_back(token.token);
  }
  if (!delta.thinking.empty() || !delta.answer.empty() || !delta.tokens.empty()) {
    delta.count = agent.transcript.count();
    EmitEvent(id, std::move(delta));
  }
  if (Answers(agent) && !fresh.answer.empty()) {
    first_answer_ = std::min(first_answer_, now_);
    EmitEvent(id, AnswerDelta{.text = std::string(fresh.answer)});
  }
}

// Counts what can be counted and, in a replay, takes the decisions in between.
void Contemplation::Course::AdvanceRound() {
  while (stage_ == Stage::kThink) {
    const bool over =
        !tally_.Any(Tally::State::kRuns) && !tally_.Any(Tally::State::kEnded) && Waiting().empty();
    if (over && (to_open_.empty() || !WaveIsWorthIt())) return EndRound(tally_.clock());
    if (over) {
      OpenWave(tally_.clock());
      continue;
    }
    if (TakeFromScript()) continue;
    if (stage_ != Stage::kThink) return;
    const std::optional<AgentId> end = tally_.NextCountable();
    if (!end) return;
    const Decision* next = script_ ? script_->next() : nullptr;
    if (next != nullptr && tally_.ClockOf(*end) > next->clock) return;
    CountEnd(*end, /*look=*/true);
  }
}

TraceConfidence Contemplation::Course::ConfidenceOf(const Agent& agent) const {
  return agent.transcript.ConfidenceAt(*agent.kept, plan_.confidence_window);
}

void Contemplation::Course::EmitFinished(const Agent& agent) {
  const TraceConfidence confidence = ConfidenceOf(agent);
  EmitEvent(agent.recipe.id,
            AgentFinished{.reason = *agent.end,
                          .answer = agent.answer,
                          .confidence = confidence.MeanProbability(),
                          .tokens = *agent.kept,
                          .top20_confidence = confidence.top20().mean(),
                          .lowest_window_confidence = confidence.top20().lowest(),
                          .weight = agent.weight,
                          .stopped_by = agent.stopped_by,
                          .thinking_forced = agent.transcript.ForcedAt(*agent.kept),
                          .probes_agreed = agent.agreed});
}

void Contemplation::Course::CountEnd(AgentId id, bool look) {
  Agent& agent = At(id);
  const int64_t clock = tally_.ClockOf(id);
  tally_.Count(id);
  counted_.push_back(id);
  reached_ = std::max(reached_, clock);
  agent.kept = static_cast<int>(clock - tally_.StartOf(id));
  if (agent.end != Finish::kBar) CastVote(agent);
  EmitFinished(agent);
  EmitVerdict(agent);
  const bool votes = plan_.mode == Mode::kContemplating && round_.kind == Round::Kind::kAnswer;
  if (votes && plan_.request.include.votes) EmitVotes();
  if (look) LookAtStopRule(clock);
}

int Contemplation::Course::ToCome() const {
  return planned_ - static_cast<int>(counted_.size()) - dropped_;
}

void Contemplation::Course::EmitVotes() {
  EmitEvent({}, VoteUpdate{.votes = ballot_.Votes(),
                           .counted = static_cast<int>(counted_.size()),
                           .to_come = ToCome(),
                           .stop_value = StopValue(plan_.stop, ballot_, ToCome())});
}

bool Contemplation::Course::LookAtStopRule(int64_t clock) {
  if (stage_ != Stage::kThink || plan_.mode != Mode::kContemplating) return false;
  if (round_.kind != Round::Kind::kAnswer) return false;  // Each part is needed.
  if (!Stops(plan_.stop, ballot_, ToCome())) return false;
  Stop(clock);
  return true;
}

void Contemplation::Course::CutAgents(const std::vector<Cut>& cuts, CutReason reason) {
  std::vector<AgentId> cancelled;
  for (const Cut& cut : cuts) {
    tally_.Cut(cut.agent, cut.kept);
    At(cut.agent).kept = cut.kept;
    At(cut.agent).end.reset();
    At(cut.agent).agreed = false;
    At(cut.agent).cut = reason;
    EmitEvent(cut.agent, AgentCut{.reason = reason, .kept = cut.kept});
    cancelled.push_back(cut.agent);
  }
  Cancel(cancelled);
}

}  // namespace conclave::router
