#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "router/contemplation/course.h"

// Decisions: taken live, by the clock, the load or a failure, or taken again from a replay's list.
namespace conclave::router {

Decision Contemplation::Course::NewDecision(Decision::Kind kind) const {
  return {.number = static_cast<int>(decisions_.size()) + 1,
          .kind = kind,
          .clock = tally_.clock(),
          .agents = {},
          .cuts = {}};
}

Decision Contemplation::Course::NarrowOf(std::vector<AgentId> agents) const {
  Decision narrow = NewDecision(Decision::Kind::kNarrow);
  narrow.agents = std::move(agents);
  std::sort(narrow.agents.begin(), narrow.agents.end());
  return narrow;
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

// Whether those that were counted, ended or still run, without `agents`, are at least the minimum.
bool Contemplation::Course::EnoughWithout(const std::vector<AgentId>& agents) const {
  int left = 0;
  for (const Agent& agent : agents_) {
    const AgentId id = agent.recipe.id;
    const Tally::State state = tally_.StateOf(id);
    if (!InRound(id) || !agent.entered || state == Tally::State::kAbsent ||
        state == Tally::State::kCut)
      continue;
    if (std::find(agents.begin(), agents.end(), id) == agents.end()) ++left;
  }
  return left >= Least();
}

void Contemplation::Course::GiveUp(const std::vector<AgentId>& agents) {
  Decision drop = NewDecision(Decision::Kind::kDrop);
  drop.agents = agents;
  for (AgentId id : agents) drop.cuts.push_back({.agent = id, .kept = At(id).transcript.count()});
  Drop(drop);
}

void Contemplation::Course::Drop(const Decision& decision) {
  Record(decision);
  CutAgents(decision.cuts, CutReason::kDropped);
  if (stage_ == Stage::kThink) {
    dropped_ += static_cast<int>(decision.cuts.size());
    LookAtStopRule(decision.clock);
  } else if (first_answer_ < absl::InfiniteFuture()) {
    Fail(Unavailable("the answer broke off: its agent was lost"));
  } else {
    AnswerByVote(/*incomplete=*/true);
  }
}

// The best answer so far, now.
void Contemplation::Course::StopNow(Decision::Kind kind) {
  if (stage_ != Stage::kThink && stage_ != Stage::kSynthesise) return;
  if (kind == Decision::Kind::kDeadline && !AnyEntered()) {
    return Fail(DeadlineExceeded("no agent had entered when the deadline came"));
  }
  if (!fingerprint_) Admit(plan_.fingerprint);
  Decision stop = NewDecision(kind);
  WithdrawUnanswered();
  stop.agents = Waiting();
  std::sort(stop.agents.begin(), stop.agents.end());
  for (AgentId id : tally_.In(Tally::State::kRuns)) {
    stop.cuts.push_back({.agent = id, .kept = At(id).transcript.count()});
  }
  ApplyStop(stop);
}

void Contemplation::Course::ApplyStop(const Decision& decision) {
  const bool late = decision.kind == Decision::Kind::kDeadline;
  const CutReason reason = late ? CutReason::kDeadline : CutReason::kStopped;
  Record(decision);
  for (AgentId id : decision.agents) At(id).kept_out = true;
  if (stage_ == Stage::kThink) {
    while (const std::optional<AgentId> end = tally_.NextEnd()) CountEnd(*end, /*look=*/false);
  }
  CutAgents(decision.cuts, reason);
  // Whose answer has begun to leave, has it.
  const bool merges = stage_ == Stage::kSynthesise;
  const Agent& last = merges ? Synthesiser() : agents_.front();
  if ((Answers(last) || merges) && !last.kept && !last.kept_out) {
    return Differs(fmt::format("{} neither counts nor cuts agent {}", NameOf(decision),
                               static_cast<uint32_t>(last.recipe.id)));
  }
  if (Answers(last) && last.kept && !last.transcript.AnswerAt(*last.kept).empty()) {
    return AnswerBy(last, /*incomplete=*/true,
                    merges ? std::optional(Aggregation::kSynthesise) : std::nullopt);
  }
  if (!merges && StandsBack(EndsByThemselves())) {
    BackToRoundBefore();
  } else if (!merges && EndsByThemselves() == 0) {
    HearCutAgents();
  }
  AnswerByVote(/*incomplete=*/true);
}

// Nobody has ended: those that were cut say what they have.
void Contemplation::Course::HearCutAgents() {
  for (AgentId id : CutByClock()) {
    CastVote(At(id));
    EmitVerdict(At(id));
    reached_ = std::max(reached_, tally_.ClockOf(id));
  }
}

void Contemplation::Course::Differs(const std::string& what) {
  Fail(Aborted("the replay differs: {}", what));
}

// Whether every agent that the decision cuts stands at its cut, and (for those that end the round)
// every other one has ended.
bool Contemplation::Course::CutsReached(const Decision& decision) {
  bool reached = true;
  for (const Cut& cut : decision.cuts) {
    const auto id = static_cast<uint32_t>(cut.agent);
    if (tally_.StateOf(cut.agent) != Tally::State::kRuns) {
      // The synthesiser, or its round, may still come.
      if (Find(cut.agent) == nullptr && stage_ == Stage::kThink) return false;
      Differs(fmt::format("{} cuts agent {}, which does not run", NameOf(decision), id));
      return false;
    }
    if (At(cut.agent).transcript.count() < cut.kept) {
      reached = false;
    } else if (tally_.ClockOf(cut.agent) < decision.clock) {
      Differs(fmt::format("{} cuts agent {} at clock {}", NameOf(decision), id,
                          tally_.ClockOf(cut.agent)));
      return false;
    }
  }
  if (decision.kind == Decision::Kind::kDeadline || decision.kind == Decision::Kind::kStopNow) {
    return reached && tally_.In(Tally::State::kRuns).size() == decision.cuts.size();
  }
  return reached;
}

// Nobody can move: each agent that runs stands where the replay will cut it, and the decision that
// would do it cannot be taken.
bool Contemplation::Course::Stuck() const {
  if (!script_ || !fingerprint_ || script_->next() == nullptr) return false;
  if (stage_ != Stage::kThink && stage_ != Stage::kSynthesise) return false;
  return std::none_of(agents_.begin(), agents_.end(), [this](const Agent& agent) {
    return Runs(agent) && script_->CutOf(agent.recipe.id) != agent.transcript.count();
  });
}

// Whether those that the decision lets in, or keeps out, are of the round and have not entered.
bool Contemplation::Course::NamesWhoMayEnter(const Decision& decision) {
  if (decision.kind == Decision::Kind::kDrop) return true;
  const bool joins = decision.kind == Decision::Kind::kJoin;
  const std::vector<AgentId> may = joins ? Waiting() : ToEnter();
  for (AgentId id : decision.agents) {
    if (std::find(may.begin(), may.end(), id) != may.end()) continue;
    Differs(fmt::format("{} does not come where agent {} may enter", NameOf(decision),
                        static_cast<uint32_t>(id)));
    return false;
  }
  return true;
}

// Takes the next decision of the replay if its time has come: no running agent is below its clock,
// and every end up to it was counted.
bool Contemplation::Course::TakeFromScript() {
  const Decision* next = script_ ? script_->next() : nullptr;
  if (next == nullptr || !fingerprint_) return false;  // Admitted is the first event.
  if (tally_.clock() < next->clock) {
    if (stage_ == Stage::kThink && !tally_.Any(Tally::State::kRuns) &&
        !tally_.Any(Tally::State::kEnded)) {
      Differs(fmt::format("{} is never reached", NameOf(*next)));
    }
    return false;
  }
  const std::optional<AgentId> end = tally_.NextEnd();
  if (stage_ == Stage::kThink && end && tally_.ClockOf(*end) <= next->clock) return false;
  if (!CutsReached(*next)) return false;

  const Decision decision = *next;
  const bool of_the_round =
      decision.kind == Decision::Kind::kJoin || decision.kind == Decision::Kind::kNarrow;
  if (of_the_round && stage_ != Stage::kThink) {
    Differs(fmt::format("{} comes after the round", NameOf(decision)));
    return false;
  }
  if (!NamesWhoMayEnter(decision)) return false;
  script_->Take();
  switch (decision.kind) {
    case Decision::Kind::kJoin:
      Record(decision);
      for (AgentId id : decision.agents) tally_.Enter(id, decision.clock);
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

}  // namespace conclave::router
