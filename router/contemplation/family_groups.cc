#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "common/status_details.h"
#include "router/contemplation/course.h"

// Attempts: a group is found, serves, is lost, and another one takes over.
namespace conclave::router {
namespace {

// Losses of a family, with no new token between them, after which no other group is tried: a
// request that kills its group must not kill the fleet.
constexpr int kMostLosses = 3;

}  // namespace

void Contemplation::Course::OpenAttempt(int agents, int least) {
  CHECK(line_ == Line::kNone);
  ++attempt_;
  line_ = Line::kPlacing;
  credits_ = 0;
  gang_limit_ = 0;
  asked_.clear();
  retry_due_ = absl::InfinitePast();
  reopen_due_ = absl::InfiniteFuture();
  least_ = least;
  place_due_ = agents > least ? now_ + limits_.place_wait : absl::InfiniteFuture();
  places_ = PlacesFor(agents, std::min(agents, least));
  places_left_ = static_cast<int>(places_.size());
  out_.push_back(OpenRun{.attempt = attempt_,
                         .places = places_,
                         .opening = {.request_id = plan_.request.id,
                                     .seed = plan_.seed,
                                     .salt = plan_.request.salt,
                                     .messages = plan_.request.messages,
                                     .time_of_day = plan_.time_of_day,
                                     .fingerprint = {}}});
}

// The last of the models, in the plan's order, that anybody may still run of.
int Contemplation::Course::LastModel() const {
  const auto used = std::min(plan_.models.size(), plan_.agents.size());
  const bool rounds = plan_.rounds > 0 || plan_.strategy == Strategy::kDecompose;
  if (rounds || !AnyEntered() || script_)
    return *std::max_element(plan_.models.begin(),
                             plan_.models.begin() + static_cast<std::ptrdiff_t>(used));
  int last = 0;
  for (const auto& agents : {Unsent(), ToEnter()}) {
    for (AgentId id : agents) last = std::max(last, At(id).model);
  }
  return last;
}

// Where so many agents are to run, a place for each model that has any: they are of them in turn,
// and those that were lost of whichever they are.
std::vector<PlaceWanted> Contemplation::Course::PlacesFor(int agents, int least) const {
  if (ByAggregator()) {
    return {{.model = plan_.aggregator->model,
             .fingerprint = plan_.aggregator->fingerprint,
             .agents = agents,
             .least = least}};
  }
  const std::string& own = fingerprint_ ? *fingerprint_ : plan_.fingerprint;
  std::vector<PlaceWanted> places = {
      {.model = plan_.model, .fingerprint = own, .agents = agents, .least = least}};
  const auto shares = static_cast<int>(std::min(plan_.models.size(), plan_.agents.size()));
  const int last = LastModel();
  if (stage_ == Stage::kSynthesise || last == 0) return places;  // What merges is of the first.
  for (int i = 0; i < last; ++i) {
    const OtherModel& other = plan_.others[static_cast<size_t>(i)];
    places.push_back({.model = other.model, .fingerprint = other.fingerprint});
  }
  const std::map<int, std::vector<AgentId>> lost = ByPlace(Unsent());
  for (size_t i = 0; i < places.size(); ++i) {
    const auto share = [&](int of) {
      int count = 0;
      for (int agent = 0; agent < of; ++agent)
        count += plan_.models[static_cast<size_t>(agent % shares)] == static_cast<int>(i) ? 1 : 0;
      return count;
    };
    const auto returning = lost.find(static_cast<int>(i));
    const int returns = returning == lost.end() ? 0 : static_cast<int>(returning->second.size());
    places[i].agents = std::max(1, lost.empty() ? share(agents) : std::min(returns, agents));
    places[i].least = std::max(1, lost.empty() ? share(least) : 1);
    places[i].share = share(shares);
    places[i].shares = shares;
  }
  return places;
}

void Contemplation::Course::CloseAttempt() {
  place_due_ = absl::InfiniteFuture();
  if (line_ == Line::kNone) return;
  line_ = Line::kNone;
  prompts_.Lost();
  out_.push_back(CloseRun{.attempt = attempt_});
}

void Contemplation::Course::Visit(const Placed& placed) {
  if (placed.attempt != attempt_ || line_ != Line::kPlacing) return;
  if (const absl::Status right = CheckPlaced(placed); !right.ok()) return Break(right);
  line_ = Line::kOpen;
  place_due_ = absl::InfiniteFuture();
  NoteLoad(placed.credits, placed.running, placed.places);
  words_ = placed.words;
  // The patience with a pass that was moved counts from its beginning.
  if (stage_ == Stage::kSynthesise && (returning_ || !ByAggregator())) Synthesiser().seated = now_;
  // Nobody was in mid-thought: all that there was to come back for is this group.
  if (rounds_opened_ > 1 && stage_ == Stage::kThink && Unsent().empty())
    stream_due_ = std::min(stream_due_, std::exchange(resume_due_, absl::InfiniteFuture()));
  if (!fingerprint_) Admit(placed.fingerprint);
}

// The first event for the client.
void Contemplation::Course::Admit(const std::string& fingerprint) {
  fingerprint_ = fingerprint;
  std::vector<std::string> of_agents;
  for (size_t i = 0; i < plan_.request.agent_models.size(); ++i)
    of_agents.push_back(FingerprintOf(plan_.models[i]));
  EmitEvent(
      {}, Admitted{.request_id = plan_.request.id,
                   .model = plan_.model,
                   .seed = plan_.seed,
                   .mode = plan_.mode,
                   .agents = static_cast<int>(plan_.agents.size()),
                   .fingerprint = fingerprint,
                   .time_of_day = plan_.time_of_day,
                   .decision_version = kDecisionVersion,
                   .aggregator_fingerprint = plan_.aggregator ? plan_.aggregator->fingerprint : "",
                   .agent_fingerprints = std::move(of_agents)});
}

void Contemplation::Course::Visit(const PlacementFailed& failed) {
  if (failed.attempt != attempt_ || line_ != Line::kPlacing) return;
  line_ = Line::kNone;
  place_due_ = absl::InfiniteFuture();
  if (AnyEntered()) {
    // resume_wait has not passed yet: who is away may come back.
    reopen_due_ = now_ + limits_.retry_wait;
  } else if (script_ && !fingerprint_ &&
             (absl::IsNotFound(failed.why) || absl::IsFailedPrecondition(failed.why))) {
    Fail(Aborted("the replay differs: no group has fingerprint {:.12}", plan_.fingerprint));
  } else {
    Fail(failed.why);
  }
}

void Contemplation::Course::Visit(const CreditsChanged& changed) {
  if (changed.attempt != attempt_ || line_ != Line::kOpen) return;
  NoteLoad(changed.credits, changed.running, changed.places);
}

void Contemplation::Course::Visit(const FamilyEnded& ended) {
  if (ended.attempt != attempt_) return;
  if (line_ == Line::kFinished) {
    prompts_.Ended(ended.totals);
    line_ = Line::kNone;
    stage_ == Stage::kSettle ? Complete() : SeekAggregator();
  } else if (line_ == Line::kOpen) {
    LoseLine(Unavailable("the group ended the family"));
  }
}

void Contemplation::Course::Visit(const Lost& lost) {
  if (lost.attempt == attempt_ && line_ != Line::kNone) LoseLine(lost.why, lost.place);
}

// The peer broke the stream's own rules: it is not believed any more.
void Contemplation::Course::Break(const absl::Status& why) {
  out_.push_back(CloseRun{.attempt = attempt_});
  LoseLine(why);
}

void Contemplation::Course::LoseLine(const absl::Status& why, int place) {
  const bool wanted = line_ != Line::kFinished;
  line_ = Line::kNone;
  place_due_ = absl::InfiniteFuture();
  prompts_.Lost();
  const bool served = std::any_of(agents_.begin(), agents_.end(),
                                  [](const Agent& a) { return a.seat == Seat::kTaken; });
  // Whether the place that was lost had begun, or only others had that were quicker.
  const bool begun = std::any_of(agents_.begin(), agents_.end(), [place](const Agent& a) {
    return a.seat == Seat::kTaken && a.model == place;
  });
  // What a later round sends may be more than the group's streams take: no other one will.
  const bool sent = rounds_opened_ > 1 &&
                    std::any_of(agents_.begin(), agents_.end(),
                                [](const Agent& a) { return a.seat == Seat::kSent && !a.entered; });
  // One that is full says when to come back; one that was sent too much does not.
  const bool full = absl::IsResourceExhausted(why) && DetailsOf(why).retry_after.has_value();
  WithdrawUnanswered();
  if (!plan_.others.empty()) WaitForRoom();
  for (Agent& agent : agents_) {
    if (agent.seat != Seat::kLeft) agent.seat = Seat::kNone;
  }
  if (stage_ == Stage::kSettle) return Complete();
  if (!wanted) return SeekAggregator();  // What it had to give, it gave.
  const bool no_room = full || (!sent && absl::IsResourceExhausted(why));
  if (!served && no_room) return Requeue();
  if (fingerprint_) {
    EmitEvent({}, GroupChanged{.reason = std::string(MessageOf(why)), .resumed = false});
  }
  if (no_room && !begun && !plan_.others.empty() && stage_ == Stage::kThink) {
    returning_ = true;
    return Requeue();
  }
  Return(why);
}

// The group had no room for the stream: nothing was lost, and it is tried again.
void Contemplation::Course::Requeue() {
  // (A replay's agents enter one after another.)
  least_ = AnyEntered() || script_ ? 1 : plan_.min_agents;
  // Where all have ended that had entered, others only wait for room.
  if (AnyEntered() && (plan_.others.empty() || !Unsent().empty())) {
    resume_due_ = std::min({resume_due_, stream_due_, now_ + limits_.resume_wait});
  }
  reopen_due_ = now_ + limits_.retry_wait;
}

// After a loss: another group, if the request and its history allow it.
void Contemplation::Course::Return(const absl::Status& why) {
  returning_ = true;
  ++losses_;
  const OnLoss on_loss = plan_.request.on_loss;
  // Nothing else is lost with a group.
  const bool thought = std::any_of(agents_.begin(), agents_.end(),
                                   [this](const Agent& a) { return a.entered && Runs(a); });
  if (!AnyEntered()) {
    // What is the request's own fault would be so elsewhere.
    if (absl::IsInvalidArgument(why) || absl::IsUnimplemented(why)) return Fail(why);
  } else if (thought && on_loss == OnLoss::kFail) {
    return Fail(Unavailable("{}", MessageOf(why)));
  } else if (thought && on_loss == OnLoss::kContinue && !script_) {
    // (Whom a replay gives up, its decisions say: the others are needed to the last token.)
    return GiveUpLost(MessageOf(why));
  }
  if (losses_ >= kMostLosses) return GiveUpLost(MessageOf(why));
  resume_due_ = std::min(resume_due_, now_ + limits_.resume_wait);
  const int unsent = static_cast<int>(Unsent().size());
  if (AnyEntered()) least_ = 1;
  if (losses_ == 1) {
    const int wanted = std::max(unsent, static_cast<int>(gang_entered_ ? 0 : Waiting().size()));
    OpenAttempt(std::max(least_, std::min(wanted, plan_.group_agents)), least_);
  } else {
    reopen_due_ = now_ + limits_.retry_wait;
  }
}

// Agents that run without a seat will not get one: the others go on, if they are enough.
void Contemplation::Course::GiveUpLost(std::string_view why) {
  resume_due_ = absl::InfiniteFuture();
  reopen_due_ = absl::InfiniteFuture();
  if (stage_ == Stage::kThink) {
    const int rounds = rounds_opened_;
    AdvanceRound();  // What a lost gang held up is counted first: a decision comes after it.
    if (stage_ != Stage::kThink || rounds_opened_ > rounds) return;
  }
  std::vector<AgentId> lost;
  for (const Agent& agent : agents_) {
    if (Runs(agent) && agent.entered && agent.seat != Seat::kTaken) lost.push_back(agent.recipe.id);
  }
  if (stage_ == Stage::kSynthesise && Runs(Synthesiser()) && lost.empty() &&
      Synthesiser().seat != Seat::kTaken) {
    lost.push_back(plan_.synthesis.id);
  }
  const bool all_back = lost.empty() && line_ == Line::kOpen && AnyEntered();
  if (all_back && !plan_.others.empty() && !script_) {  // Others wait for room.
    returning_ = false;
    return;
  }
  const bool fails = stage_ == Stage::kThink && plan_.request.on_loss == OnLoss::kFail;
  if (script_ || (fails && !lost.empty()) || (stage_ == Stage::kThink && !EnoughWithout(lost))) {
    return Fail(Unavailable("{}", why));
  }
  if (line_ == Line::kPlacing) CloseAttempt();
  returning_ = false;
  if (!lost.empty()) GiveUp(lost);
  if (stage_ == Stage::kThink && line_ == Line::kNone && !ToEnter().empty()) {
    AdvanceRound();
    if (stage_ == Stage::kThink && line_ == Line::kNone) Narrow(NarrowOf(ToEnter()));
  }
}

// Whether the pass runs, or is to run, on groups of another model than the agents did.
bool Contemplation::Course::ByAggregator() const {
  return stage_ == Stage::kSynthesise && plan_.aggregator.has_value();
}

// No agent follows on the group that there is: it is let go, and tells what it cost. Another one is
// waited for no longer than for the pass itself; a replay, which must come to it, waits as for one
// that was lost.
void Contemplation::Course::MoveToAggregator() {
  resume_due_ = now_ + (script_ ? limits_.resume_wait : plan_.patience);
  reopen_due_ = absl::InfiniteFuture();
  if (line_ == Line::kOpen) return FinishLine();
  CloseAttempt();
  SeekAggregator();
}

void Contemplation::Course::SeekAggregator() {
  receipt_due_ = absl::InfiniteFuture();
  for (Agent& agent : agents_) {
    if (agent.seat != Seat::kLeft) agent.seat = Seat::kNone;
  }
  OpenAttempt(1, 1);
}

// Half-closes it, and waits for its totals.
void Contemplation::Course::FinishLine() {
  line_ = Line::kFinished;
  receipt_due_ = now_ + limits_.receipt_wait;
  for (; places_left_ > 0; --places_left_)
    out_.push_back(FinishRun{.attempt = attempt_, .place = places_left_ - 1});
}

// The pass needs a group of its own model alone: what befalls the others is nothing to it.
void Contemplation::Course::FinishOtherPlaces() {
  if (line_ != Line::kOpen) return;
  for (; places_left_ > 1; --places_left_)
    out_.push_back(FinishRun{.attempt = attempt_, .place = places_left_ - 1});
}

// Agents run on another group now.
void Contemplation::Course::MarkResumed() {
  if (!returning_) return;
  returning_ = false;
  EmitEvent({}, GroupChanged{.reason = words_, .resumed = true});
}

}  // namespace conclave::router
