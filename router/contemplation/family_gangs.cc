#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "router/contemplation/course.h"

// Gangs: who is sent when, and what the worker answers.
namespace conclave::router {

// Agents of the round that were to enter by now, have not, and may still.
std::vector<AgentId> Contemplation::Course::Waiting() const {
  std::vector<AgentId> waiting;
  if (stage_ != Stage::kThink) return waiting;
  for (size_t i = 0; i < opened_; ++i) {
    const Agent& agent = agents_[round_.begin + i];
    if (!agent.kept_out && tally_.StateOf(agent.recipe.id) == Tally::State::kAbsent) {
      waiting.push_back(agent.recipe.id);
    }
  }
  if (round_.kind == Round::Kind::kParts) {  // Each part has one before any has two.
    std::stable_sort(waiting.begin(), waiting.end(),
                     [](AgentId a, AgentId b) { return IndexOf(a) < IndexOf(b); });
  }
  return waiting;
}

// Agents that run in token time and are on no stream. One that a replay will cut where it stands
// needs none.
std::vector<AgentId> Contemplation::Course::Unsent() const {
  std::vector<AgentId> unsent;
  for (const Agent& agent : agents_) {
    if (agent.seat != Seat::kNone || !Runs(agent)) continue;
    if (script_ && script_->CutOf(agent.recipe.id) == agent.transcript.count()) continue;
    unsent.push_back(agent.recipe.id);
  }
  return unsent;
}

// Whether agents that run have been sent and not been answered.
bool Contemplation::Course::InFlight() const {
  return std::any_of(agents_.begin(), agents_.end(), [this](const Agent& agent) {
    return agent.seat == Seat::kSent && Runs(agent);
  });
}

// How many agents may be sent now. Without credits one is tried, after a pause if the last one was
// refused.
int Contemplation::Course::Allowance() const {
  if (credits_ > 0) return credits_;
  return now_ >= retry_due_ ? 1 : 0;
}

void Contemplation::Course::SendAgents() {
  if (line_ != Line::kOpen) return;
  if (stage_ == Stage::kThink && !script_ && !gang_entered_) return SendWave();
  if (const std::vector<AgentId> unsent = Unsent(); !unsent.empty()) return SendReturning(unsent);
  if (stage_ == Stage::kThink && !script_ && join_.empty()) SendJoin();
}

// The gang with which a wave begins. Of the first wave, as many as the group is known to have room
// for; of those behind it all are tried, in the places of those that were counted. When agents are
// dear, no more than are worth it; when nobody is, the round ends with those that it has.
void Contemplation::Course::SendWave() {
  if (tally_.Any(Tally::State::kRuns)) return;  // It is on its way.
  const bool first = !AnyEntered();
  if (!first && now_ < retry_due_) return;
  std::vector<AgentId> gang = Waiting();
  if (gang.empty()) return;
  if (gang_limit_ > 0 && !plan_.others.empty()) {  // Another model may have room.
    std::stable_partition(gang.begin(), gang.end(),
                          [this](AgentId id) { return At(id).model != no_room_; });
  }
  const int worth = MayEnter();
  if (worth == 0) return Narrow(NarrowOf(ToEnter()));
  const int room = first ? std::max(credits_, plan_.min_agents) : plan_.group_agents;
  const auto most = static_cast<size_t>(std::min(gang_limit_ > 0 ? gang_limit_ : room, worth));
  if (gang.size() > most) gang.resize(most);
  for (AgentId id : gang) tally_.Enter(id, opened_at_);
  Send(gang);
}

// Agents that ran before enter one by one, as does the synthesiser; those of a replay in gangs of
// any size.
void Contemplation::Course::SendReturning(const std::vector<AgentId>& unsent) {
  if (InFlight() && credits_ <= 0) return;
  size_t room = static_cast<size_t>(Allowance());
  std::vector<AgentId> gang;
  for (AgentId id : unsent) {
    if (room == 0) break;
    --room;
    if (script_ && !At(id).entered) {
      gang.push_back(id);
      if (gang_limit_ == 0 || gang.size() < static_cast<size_t>(gang_limit_)) continue;
      Send(std::exchange(gang, {}));
    } else {
      Send({id});
    }
  }
  if (!gang.empty()) Send(gang);
}

// Late ones of one model, the next one behind that whose gang found no room.
void Contemplation::Course::SendJoin() {
  const std::vector<AgentId> waiting = Waiting();
  const int worth = MayEnter();
  if (!waiting.empty() && worth == 0 && !tally_.Any(Tally::State::kRuns))
    return Narrow(NarrowOf(ToEnter()));
  const std::map<int, std::vector<AgentId>> by_model = ByPlace(waiting);
  const auto next = by_model.upper_bound(no_room_);
  join_.clear();
  if (!by_model.empty()) join_ = next == by_model.end() ? by_model.begin()->second : next->second;
  auto room = static_cast<size_t>(std::min(Allowance(), worth));
  if (ToldApart() && gang_limit_ > 0) room = std::min(room, static_cast<size_t>(gang_limit_));
  if (join_.size() > room) join_.resize(room);
  if (join_.empty()) return;
  const int64_t clock = tally_.clock();
  for (AgentId id : join_) tally_.Enter(id, clock);
  Send(join_);
  retry_due_ = now_ + limits_.retry_wait;
}

// Those of each model to its group.
void Contemplation::Course::Send(const std::vector<AgentId>& agents) {
  credits_ -= static_cast<int>(agents.size());
  for (const auto& [place, ids] : ByPlace(agents)) {
    AddGang gang{.attempt = attempt_, .place = place, .agents = {}};
    for (AgentId id : ids) {
      Agent& agent = At(id);
      agent.seat = Seat::kSent;
      if (stage_ == Stage::kThink) agent.seated = now_;
      agent.run_to = RunTo(agent);
      agent.asked.last_here = 0;
      gang.agents.push_back(agent.recipe);
      gang.agents.back().produced = agent.transcript.Produced();
      gang.agents.back().run_to = agent.run_to;
    }
    asked_.push_back(ids);
    out_.push_back(std::move(gang));
  }
}

void Contemplation::Course::Visit(const Accepted& accepted) {
  if (accepted.attempt != attempt_ || (line_ != Line::kOpen && line_ != Line::kFinished)) return;
  std::vector<AgentId> gang, entered;
  for (const AcceptedAgent& taken : accepted.agents) gang.push_back(taken.id);
  if (!TakeOff(accepted.place, gang))
    return Break(DataLoss("a gang was accepted that was not asked for"));
  for (const AcceptedAgent& taken : accepted.agents) {
    Agent& agent = At(taken.id);
    agent.seat = Seat::kTaken;
    agent.prompt_tokens = taken.prompt_tokens;
    prompts_.Accepted(taken.id, taken.prompt_tokens);
    if (!Runs(agent)) continue;  // Given up meanwhile, and cancelled.
    const bool returns = std::exchange(agent.entered, true);
    if (returns && returning_) ++resumes_;
    if (!returns) entered.push_back(taken.id);
    // Another model's group may have been quicker than that of those who return.
    const bool away = std::any_of(agents_.begin(), agents_.end(), [this](const Agent& a) {
      return a.entered && Runs(a) && a.seat != Seat::kTaken;
    });
    if (returns || !away) MarkResumed();
  }
  stream_due_ = absl::InfiniteFuture();
  no_room_ = -1;
  if (!join_.empty() && !entered.empty() && entered.front() == join_.front()) AcceptJoin();
  for (AgentId id : entered) {
    const Agent& agent = At(id);
    EmitEvent(id, AgentStarted{.prompt_tokens = agent.prompt_tokens,
                               .grant = agent.recipe.grant,
                               .model = OtherName(agent.model)});
  }
  // A part for which somebody has entered may do without its others, after a while.
  const bool parts = round_.kind == Round::Kind::kParts && stage_ == Stage::kThink;
  if (!entered.empty() && (!std::exchange(gang_entered_, true) || parts)) {
    const bool others = !Waiting().empty() || !join_.empty();
    narrow_due_ = others && !script_ ? now_ + limits_.narrow_wait : absl::InfiniteFuture();
    if (others) retry_due_ = now_ + limits_.retry_wait;
  }
  if (Unsent().empty() && !InFlight()) resume_due_ = absl::InfiniteFuture();
}

// Only now the decision is known to stand; it counts from the sending, where the family's clock has
// stood since.
void Contemplation::Course::AcceptJoin() {
  Decision join = NewDecision(Decision::Kind::kJoin);
  join.clock = tally_.StartOf(join_.front());
  join.agents = std::exchange(join_, {});
  std::sort(join.agents.begin(), join.agents.end());
  Record(join);
}

void Contemplation::Course::Visit(const Refused& refused) {
  if (refused.attempt != attempt_ || (line_ != Line::kOpen && line_ != Line::kFinished)) return;
  if (!TakeOff(refused.place, refused.agents)) {
    return Break(DataLoss("a gang was refused that was not asked for"));
  }
  no_room_ = At(refused.agents.front()).model;
  bool any_runs = false;
  for (AgentId id : refused.agents) {
    Agent& agent = At(id);
    agent.seat = Seat::kNone;
    any_runs = any_runs || Runs(agent);
  }
  stream_due_ = absl::InfiniteFuture();
  if (!any_runs) return;  // Given up meanwhile.
  if (script_ || stage_ == Stage::kSynthesise || At(refused.agents.front()).entered) {
    ReturningRefused(refused);
  } else if (!join_.empty() && join_.front() == refused.agents.front()) {
    JoinRefused(refused);
  } else {
    FirstGangRefused(refused);
  }
}

// Whether nobody was asked for before the gang that was sent last, or its parts.
bool Contemplation::Course::OpensTheRequest() const {
  return rounds_opened_ == 1 && opened_ == static_cast<size_t>(plan_.waves.front());
}

// Some of the round run, and others wait: for as long as those do that found no room at first.
void Contemplation::Course::WaitForRoom() {
  if (!gang_entered_ || script_ || stage_ != Stage::kThink || Waiting().empty()) return;
  narrow_due_ = std::min(narrow_due_, now_ + limits_.narrow_wait);
}

// Of agents of several models a part may be refused while the others are on their way, or there:
// for want of room it waits, and joins; otherwise the reason is the request's own, but that fewer
// fit.
void Contemplation::Course::FirstGangRefused(const Refused& refused) {
  const int size = static_cast<int>(refused.agents.size());
  for (AgentId id : refused.agents) tally_.Withdraw(id);
  const int rounds = rounds_opened_;
  AdvanceRound();  // What the gang held up is counted first: a decision comes after it.
  if (stage_ != Stage::kThink || rounds_opened_ > rounds) return;
  if (AnyEntered() && !OpensTheRequest()) return WaveRefused(refused);
  if (absl::IsResourceExhausted(refused.why)) {
    if (AnyEntered() || tally_.Any(Tally::State::kRuns)) {
      credits_ = 0;
      retry_due_ = now_ + limits_.retry_wait;
      return WaitForRoom();
    }
    if (size > plan_.min_agents) {
      gang_limit_ = std::max(plan_.min_agents, size / 2);
      return;
    }
    // Back to the queue.
    CloseAttempt();
    least_ = plan_.min_agents;
    reopen_due_ = now_ + limits_.retry_wait;
  } else if (absl::IsOutOfRange(refused.why) && refused.width > 0 && refused.width < size) {
    NarrowTo(refused, refused.width);
    WaitForRoom();
  } else {
    Fail(refused.why);
  }
}

void Contemplation::Course::JoinRefused(const Refused& refused) {
  for (AgentId id : std::exchange(join_, {})) tally_.Withdraw(id);
  if (absl::IsResourceExhausted(refused.why)) {
    credits_ = 0;
    retry_due_ = now_ + limits_.retry_wait;
    // The wait was over while the gang was on its way: it is over for its agents too.
    if (narrow_due_ == absl::InfiniteFuture()) narrow_due_ = now_;
    return;
  }
  const int rounds = rounds_opened_;
  AdvanceRound();  // What the gang held up is counted first: a decision comes after it.
  if (stage_ != Stage::kThink || rounds_opened_ > rounds) return;
  if (ToldApart()) return RefusedApart(refused);
  // Whatever the group says, fewer than it refused.
  NarrowTo(refused, std::min(refused.width, static_cast<int>(refused.agents.size()) - 1));
}

// Of those that wait and are of the refused ones' model, only the first `width` of these may still
// enter; where that is too few, there is no answer.
void Contemplation::Course::NarrowTo(const Refused& refused, int width) {
  const std::vector<AgentId>& gang = refused.agents;
  const int model = At(gang.front()).model;
  std::vector<AgentId> out = Waiting();
  const auto end = gang.begin() + std::clamp<int64_t>(width, 0, static_cast<int64_t>(gang.size()));
  std::erase_if(out, [&](AgentId id) {
    return At(id).model != model || std::find(gang.begin(), end, id) != end;
  });
  if (out.empty()) return;
  int left = -static_cast<int>(out.size());  // Of those that were to enter by now.
  for (size_t i = 0; i < opened_; ++i) left += agents_[round_.begin + i].kept_out ? 0 : 1;
  if (left < Least()) {
    return Fail(
        OutOfRange("{}; {} agents fit, the minimum is {}", MessageOf(refused.why), left, Least()));
  }
  Narrow(NarrowOf(std::move(out)));
}

void Contemplation::Course::ReturningRefused(const Refused& refused) {
  const int size = static_cast<int>(refused.agents.size());
  if (absl::IsResourceExhausted(refused.why)) {
    credits_ = 0;
    gang_limit_ = std::max(1, size / 2);
    retry_due_ = now_ + limits_.retry_wait;
    // A synthesiser that never entered waits in the queue, for as long as the patience lasts.
    if (!script_ && At(refused.agents.front()).entered) {
      resume_due_ = std::min(resume_due_, now_ + limits_.resume_wait);
    }
  } else if (absl::IsOutOfRange(refused.why) && refused.width > 0 && refused.width < size) {
    gang_limit_ = refused.width;
  } else if (script_) {
    Fail(refused.why);
  } else if (stage_ == Stage::kThink &&
             (plan_.request.on_loss == OnLoss::kFail || !EnoughWithout(refused.agents))) {
    Fail(Unavailable("an agent could not be resumed: {}", MessageOf(refused.why)));
  } else {
    GiveUp(refused.agents);
  }
}

// A gang that is on its way, the first one or a late one, will not be waited for: it never was.
// (Those of a replay were, and run from the beginning.)
void Contemplation::Course::WithdrawUnanswered() {
  join_.clear();
  if (script_ || stage_ != Stage::kThink) return;
  const std::vector<AgentId> gang = Unanswered();
  for (AgentId id : gang) tally_.Withdraw(id);
  Cancel(gang);
}

void Contemplation::Course::Cancel(const std::vector<AgentId>& agents) {
  if (line_ != Line::kOpen) return;
  std::vector<AgentId> seated;
  for (AgentId id : agents) {
    const Seat seat = At(id).seat;
    if (seat == Seat::kSent || seat == Seat::kTaken) seated.push_back(id);
  }
  for (auto& [place, ids] : ByPlace(seated))
    out_.push_back(CancelAgents{.attempt = attempt_, .place = place, .agents = ids});
}

// The count at which the agent waits: a replay's cut, or the lead over the family's clock.
int Contemplation::Course::RunTo(const Agent& agent) const {
  if (script_) return script_->CutOf(agent.recipe.id).value_or(0);
  if (limits_.max_lead <= 0 || plan_.agents.size() < 2 || stage_ != Stage::kThink) return 0;
  const int64_t behind = tally_.clock() - tally_.StartOf(agent.recipe.id);
  return static_cast<int>(std::min<int64_t>(behind + limits_.max_lead, agent.recipe.grant));
}

// Raised in strides, so that it costs a command every max_lead / 2 tokens.
void Contemplation::Course::RaiseLeads() {
  if (limits_.max_lead <= 0 || script_ || line_ != Line::kOpen) return;
  std::map<int, RaiseRunTo> places;
  for (Agent& agent : agents_) {
    if (agent.run_to == 0 || agent.seat != Seat::kTaken || !Runs(agent)) continue;
    const int run_to = RunTo(agent);
    const bool last_stride = run_to == agent.recipe.grant && agent.run_to < run_to;
    if (!last_stride && run_to - agent.run_to < (limits_.max_lead + 1) / 2) continue;
    agent.run_to = run_to;
    RaiseRunTo& raise = places[agent.model];
    raise.agents.push_back(agent.recipe.id);
    raise.counts.push_back(run_to);
  }
  for (auto& [place, raise] : places) {
    raise.attempt = attempt_;
    raise.place = place;
    out_.push_back(std::move(raise));
  }
}

}  // namespace conclave::router
