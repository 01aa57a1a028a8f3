#include "router/contemplation/family.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "router/contemplation/course.h"

namespace conclave::router {

Contemplation::Contemplation(Plan plan, Limits limits)
    : course_(std::make_unique<Course>(std::move(plan), limits)) {}
Contemplation::~Contemplation() = default;
Contemplation::Contemplation(Contemplation&&) noexcept = default;
Contemplation& Contemplation::operator=(Contemplation&&) noexcept = default;

std::vector<Command> Contemplation::On(const Event& event) { return course_->On(event); }

Contemplation::Course::Course(Plan plan, const Limits& limits)
    : CourseState(std::move(plan), limits) {
  CHECK(!plan_.agents.empty());
  if (plan_.request.replay) script_.emplace(plan_.request.replay->decisions);
}

std::vector<Command> Contemplation::Course::On(const Event& event) {
  if (stage_ == Stage::kDone) return {};
  CHECK((stage_ == Stage::kNew) == std::holds_alternative<Started>(event.what));
  now_ = std::max(now_, event.at);
  std::visit([this](const auto& what) { Visit(what); }, event.what);
  Progress();
  // What happened counts before what the clock says of it: so a decision finds every end counted
  // that can be, and no command goes to a stream that this event has ended.
  FireTimers();
  Progress();
  if (Stuck()) Differs(fmt::format("{} is never reached", NameOf(*script_->next())));
  if (stage_ != Stage::kDone) SetTimer();
  return std::exchange(out_, {});
}

void Contemplation::Course::Visit(const Started&) {
  stage_ = Stage::kThink;
  started_ = now_;
  // A replay takes the time it takes: its cuts are counts. Only the server's own limit ends it.
  deadline_due_ = now_ + (script_ ? limits_.deadline : plan_.deadline);
  OpenFirstRound();
  if (script_) {
    // It was stopped before anybody had entered: no group is needed to come to that again.
    if (!tally_.Any(Tally::State::kRuns)) return Admit(plan_.fingerprint);
    OpenAttempt(1, 1);
  } else {
    OpenAttempt(std::min(plan_.waves.front(), std::max(plan_.group_agents, plan_.min_agents)),
                plan_.min_agents);
  }
}

void Contemplation::Course::Visit(const ClientGone&) { Fail(Cancelled("the client is gone")); }

void Contemplation::Course::Visit(const StopRequested&) {
  if (!script_) StopNow(Decision::Kind::kStopNow);
}

// What follows from what is known now.
void Contemplation::Course::Progress() {
  if (stage_ == Stage::kThink) AdvanceRound();
  if (stage_ == Stage::kSynthesise) AdvanceSynthesis();
  if (stage_ == Stage::kThink || stage_ == Stage::kSynthesise) {
    const size_t decided = decisions_.size();
    SendAgents();
    RaiseLeads();
    if (decisions_.size() > decided) Progress();  // Nobody more is worth it.
  }
}

void Contemplation::Course::FireTimers() {
  const auto due = [this](absl::Time& time) {
    if (stage_ == Stage::kDone || now_ < time) return false;
    time = absl::InfiniteFuture();
    return true;
  };
  if (due(deadline_due_)) {
    if (script_) {
      Fail(DeadlineExceeded("the replay took longer than {} ms",
                            absl::ToInt64Milliseconds(limits_.deadline)));
    } else {
      StopNow(Decision::Kind::kDeadline);
    }
  }
  if (due(receipt_due_)) {
    CloseAttempt();
    stage_ == Stage::kSettle ? Complete() : SeekAggregator();
  }
  if (due(place_due_)) {
    CloseAttempt();
    OpenAttempt(least_, least_);
  }
  if (due(reopen_due_)) OpenAttempt(least_, least_);
  if (due(resume_due_)) {
    GiveUpLost(fmt::format("its agents did not run again within {} ms",
                           absl::ToInt64Milliseconds(limits_.resume_wait)));
  }
  if (due(narrow_due_) && stage_ == Stage::kThink) NarrowWaiting();
  if (now_ >= StragglerDue()) DropStragglers();
}

absl::Time Contemplation::Course::NextDue() const {
  absl::Time due = std::min({deadline_due_, receipt_due_, place_due_, reopen_due_, resume_due_});
  if (stage_ == Stage::kThink) due = std::min(due, narrow_due_);
  // One that can't be given up is looked at again when something happens.
  if (const absl::Time straggler = StragglerDue(); straggler > now_) due = std::min(due, straggler);
  if (line_ == Line::kOpen && retry_due_ > now_ && stage_ != Stage::kSettle) {
    const bool joins = gang_entered_ && !script_ && join_.empty() && !Waiting().empty();
    if (joins || WaveWaits() || !Unsent().empty()) due = std::min(due, retry_due_);
  }
  return due;
}

void Contemplation::Course::SetTimer() {
  const absl::Time due = NextDue();
  if (due == wake_) return;
  wake_ = due;
  out_.push_back(WakeAt{.time = due});
}

// There will be no answer. Whoever runs is cancelled, and the group says what it came to: a stream
// that is broken has no exact bill.
void Contemplation::Course::Fail(const absl::Status& why) {
  if (failure_.ok()) failure_ = why;
  if (line_ == Line::kOpen && !prompts_.any() && asked_.empty()) CloseAttempt();
  if (line_ == Line::kOpen) {
    WithdrawUnanswered();
    const std::vector<AgentId> running = tally_.In(Tally::State::kRuns);
    for (AgentId id : running) {
      tally_.Cut(id, static_cast<int>(tally_.ClockOf(id) - tally_.StartOf(id)));
    }
    Cancel(running);
  }
  AwaitTotals();
}

// Where it stands in agents_, or would.
size_t CourseState::Place(AgentId id) const {
  const auto found =
      std::lower_bound(agents_.begin(), agents_.end(), id,
                       [](const Agent& agent, AgentId wanted) { return agent.recipe.id < wanted; });
  return static_cast<size_t>(found - agents_.begin());
}

size_t CourseState::Known(AgentId id) const {
  const size_t place = Place(id);
  CHECK(place < agents_.size() && agents_[place].recipe.id == id);
  return place;
}

Agent* CourseState::Find(AgentId id) {
  const size_t place = Place(id);
  return place < agents_.size() && agents_[place].recipe.id == id ? &agents_[place] : nullptr;
}

bool CourseState::Runs(const Agent& agent) const {
  return tally_.StateOf(agent.recipe.id) == Tally::State::kRuns;
}

bool CourseState::AnyEntered() const {
  return std::any_of(agents_.begin(), agents_.end(),
                     [](const Agent& agent) { return agent.entered; });
}

std::string CourseState::FingerprintOf(int model) const {
  if (model > 0) return plan_.others[static_cast<size_t>(model) - 1].fingerprint;
  return fingerprint_.value_or("");
}

std::string CourseState::OtherName(int model) const {
  return model > 0 ? plan_.others[static_cast<size_t>(model) - 1].model : "";
}

// Whether it is where the family may run.
absl::Status CourseState::CheckPlaced(const Placed& placed) const {
  CHECK(placed.beside.size() + 1 == places_.size());
  for (size_t i = 0; i < places_.size(); ++i) {
    const std::string& there = i == 0 ? placed.fingerprint : placed.beside[i - 1];
    const std::string& wanted = places_[i].fingerprint;
    if (wanted.empty() || there == wanted) continue;
    return FailedPrecondition("the group has fingerprint {:.12}; the family needs {:.12}", there,
                              wanted);
  }
  return absl::OkStatus();
}

// The same agents, by their places in the attempt.
std::map<int, std::vector<AgentId>> CourseState::ByPlace(const std::vector<AgentId>& agents) const {
  std::map<int, std::vector<AgentId>> places;
  for (AgentId id : agents) places[At(id).model].push_back(id);
  return places;
}

// Agents that were asked for, not to return, and of whom nobody has said yet whether they enter.
std::vector<AgentId> CourseState::Unanswered() const {
  std::vector<AgentId> gang;
  for (const Agent& agent : agents_) {
    if (agent.seat == Seat::kSent && !agent.entered && Runs(agent)) gang.push_back(agent.recipe.id);
  }
  return gang;
}

// Takes off the gang whose answer is due, if this is it: each is answered whole, on its group in
// the order of sending.
bool CourseState::TakeOff(int place, const std::vector<AgentId>& gang) {
  const auto due = std::find_if(asked_.begin(), asked_.end(), [&](const auto& asked) {
    return At(asked.front()).model == place;
  });
  if (due == asked_.end() || *due != gang) return false;
  asked_.erase(due);
  return true;
}

}  // namespace conclave::router
