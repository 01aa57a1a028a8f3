#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "router/contemplation/course.h"

// Decisions: taken by the clock, the load or a failure; and taken again from a receipt.
namespace conclave::router {

Decision Contemplation::Course::NewDecision(Decision::Kind kind) const {
  Decision decision;
  decision.number = static_cast<int>(decisions_.size()) + 1;
  decision.kind = kind;
  decision.clock = tally_.clock();
  return decision;
}

void Contemplation::Course::Record(const Decision& decision) {
  decisions_.push_back(decision);
  EmitEvent({}, decision);
}

void Contemplation::Course::Narrow(const Decision& decision) {
  Record(decision);
  for (AgentId id : decision.agents) At(id).kept_out = true;
  planned_ -= static_cast<int>(decision.agents.size());
  if (Waiting().empty()) narrow_due_ = absl::InfiniteFuture();
  LookAtStopRule(decision.clock);
}

void Contemplation::Course::Drop(const Decision& decision) {
  Record(decision);
  CutAgents(decision.cuts, CutReason::kDropped);
  if (stage_ != Stage::kThink) return;
  dropped_ += static_cast<int>(decision.agents.size());
  LookAtStopRule(decision.clock);
}

// Agents that will not come back. Once their answer is being streamed, nobody else's can follow.
void Contemplation::Course::GiveUp(const std::vector<AgentId>& agents) {
  Decision drop = NewDecision(Decision::Kind::kDrop);
  for (AgentId id : agents) {
    const Agent& agent = At(id);
    if (Answers(agent) && first_answer_ != absl::InfiniteFuture()) {
      return Fail(Unavailable("the group was lost in the middle of the answer"));
    }
    drop.cuts.push_back({.agent = id, .kept = agent.transcript.count()});
  }
  std::sort(drop.cuts.begin(), drop.cuts.end(),
            [](const Cut& a, const Cut& b) { return a.agent < b.agent; });
  for (const Cut& cut : drop.cuts) drop.agents.push_back(cut.agent);
  Drop(drop);
}

// The best answer so far.
void Contemplation::Course::StopNow(Decision::Kind kind) {
  if (stage_ != Stage::kThink && stage_ != Stage::kSynthesise) return;
  if (!fingerprint_) {
    return Fail(DeadlineExceeded("no group took the request within its deadline"));
  }
  WithdrawJoin();
  if (stage_ == Stage::kThink) AdvanceRound();
  if (stage_ != Stage::kThink && stage_ != Stage::kSynthesise) return;
  Decision stop = NewDecision(kind);
  stop.agents = Waiting();
  for (AgentId id : tally_.In(Tally::State::kRuns)) {
    stop.cuts.push_back({.agent = id, .kept = At(id).transcript.count()});
  }
  ApplyStop(stop);
}

// Every end that was received votes, in order of (clock, agent), and no stop rule is looked at.
void Contemplation::Course::ApplyStop(const Decision& decision) {
  const bool deadline = decision.kind == Decision::Kind::kDeadline;
  const Stage stage = stage_;
  Record(decision);
  for (AgentId id : decision.agents) At(id).kept_out = true;
  planned_ -= static_cast<int>(decision.agents.size());
  while (const std::optional<AgentId> end = tally_.NextEnd()) CountEnd(*end, /*look=*/false);
  CutAgents(decision.cuts, deadline ? CutReason::kDeadline : CutReason::kStopped);
  if (stage == Stage::kSynthesise) {
    const Agent& synthesiser = agents_.back();
    if (first_answer_ != absl::InfiniteFuture()) {
      return AnswerBy(synthesiser, /*incomplete=*/true, Aggregation::kSynthesise);
    }
    return AnswerByVote(/*incomplete=*/true);
  }
  if (counted_.empty()) {
    // Nobody has ended: what the key finds up to the cuts votes.
    std::vector<AgentId> cut = tally_.In(Tally::State::kCut);
    std::stable_sort(cut.begin(), cut.end(), [this](AgentId a, AgentId b) {
      return tally_.ClockOf(a) < tally_.ClockOf(b);
    });
    for (AgentId id : cut) {
      Agent& agent = At(id);
      agent.answer = Extract(agent);
      if (!agent.answer) continue;
      if (plan_.mode == Mode::kContemplating) ballot_.Add(id, *agent.answer);
      reached_ = std::max(reached_, tally_.ClockOf(id));
    }
  }
  if (plan_.mode != Mode::kContemplating) {
    return AnswerBy(agents_.front(), /*incomplete=*/true, std::nullopt);
  }
  AnswerByVote(/*incomplete=*/true);
}

// Takes the script's next decision if its moment has come: all ends up to its clock are counted,
// nobody who runs is below it, and everyone whom it cuts stands at the cut.
bool Contemplation::Course::TakeFromScript() {
  const Decision* next = script_->next();
  if (next == nullptr) return false;
  const std::optional<AgentId> end = tally_.NextEnd();
  if (end && tally_.ClockOf(*end) <= next->clock) return false;
  for (AgentId id : tally_.In(Tally::State::kRuns)) {
    if (tally_.ClockOf(id) < next->clock) return false;
  }
  if (!CutsReached(*next)) return false;
  const Decision decision = *next;
  script_->Take();
  switch (decision.kind) {
    case Decision::Kind::kJoin:
      for (AgentId id : decision.agents) tally_.Enter(id, decision.clock);
      Record(decision);
      break;
    case Decision::Kind::kNarrow:
      Narrow(decision);
      break;
    case Decision::Kind::kDrop:
      Drop(decision);
      break;
    case Decision::Kind::kDeadline:
    case Decision::Kind::kStopNow:
      ApplyStop(decision);
      break;
  }
  return true;
}

bool Contemplation::Course::CutsReached(const Decision& decision) {
  for (const Cut& cut : decision.cuts) {
    const Agent* agent = Find(cut.agent);
    if (agent == nullptr) return false;  // The synthesiser, whose stage has not begun.
    if (!Runs(*agent)) {
      Differs(fmt::format("agent {} ended before the cut of {}", static_cast<uint32_t>(cut.agent),
                          NameOf(decision)));
      return false;
    }
    if (agent->transcript.count() < cut.kept) return false;
  }
  const bool stops =
      decision.kind == Decision::Kind::kDeadline || decision.kind == Decision::Kind::kStopNow;
  // Whoever is not cut had ended.
  return !stops || tally_.In(Tally::State::kRuns).size() == decision.cuts.size();
}

void Contemplation::Course::Differs(const std::string& what) {
  Fail(Aborted("the replay differs: {}", what));
}

bool Contemplation::Course::EnoughWithout(const std::vector<AgentId>& agents) const {
  size_t left = counted_.size() + tally_.In(Tally::State::kEnded).size();
  for (AgentId id : tally_.In(Tally::State::kRuns)) {
    left += std::find(agents.begin(), agents.end(), id) == agents.end() ? 1 : 0;
  }
  return left >= static_cast<size_t>(plan_.min_agents);
}

}  // namespace conclave::router
