#include <algorithm>

#include "common/check.h"
#include "router/contemplation/course.h"
#include "router/contemplation/width.h"

// Waves: agents that enter at a token time because the round has come so far, not because the clock
// on the wall or the load said so. What opens a wave is counted ends only: a replay opens it at the
// same clock by itself.
namespace conclave::router {

// The next agents of the round may enter, and start at `clock`: without a decision, those that find
// room at once. REQUIRES: nobody runs or waits.
void Contemplation::Course::OpenWave(int64_t clock) {
  CHECK(!to_open_.empty());
  opened_ += static_cast<size_t>(to_open_.front());
  to_open_.pop_front();
  CHECK(opened_ <= round_.size);
  opened_at_ = clock;
  gang_entered_ = false;
  gang_limit_ = 0;
  retry_due_ = absl::InfinitePast();
  if (script_) {
    for (AgentId id : Waiting()) {
      if (script_->Starts(id)) tally_.Enter(id, clock);
    }
  } else if (AnyEntered()) {
    narrow_due_ = now_ + limits_.narrow_wait;
  }
}

// How many agents of the round ever entered.
int Contemplation::Course::Entered() const {
  const auto begin = agents_.begin() + static_cast<std::ptrdiff_t>(round_.begin);
  return static_cast<int>(std::count_if(
      begin, begin + static_cast<std::ptrdiff_t>(round_.size), [this](const Agent& agent) {
        return tally_.StateOf(agent.recipe.id) != Tally::State::kAbsent;
      }));
}

// That the leader is likelier than the runner-up. A checker's verdict is not the votes' to foresee.
double Contemplation::Course::Certainty() const {
  return plan_.checker ? 0.5 : LeaderProbability(ballot_.leading(), ballot_.runner_up());
}

// What the plan asks of another wave, by the votes that there are: counted ends only, so that a
// replay comes to the same.
bool Contemplation::Course::WaveIsWorthIt() const {
  return 2 * (1 - Certainty()) >= plan_.price * Entered();
}

// Whether a wave behind the first one is to be sent, as a gang if there is room.
bool Contemplation::Course::WaveWaits() const {
  return stage_ == Stage::kThink && !script_ && !gang_entered_ && AnyEntered() &&
         !tally_.Any(Tally::State::kRuns);
}

// Agents of the round that have not entered, and may or might have later.
std::vector<AgentId> Contemplation::Course::ToEnter() const {
  std::vector<AgentId> agents = Waiting();
  for (size_t i = opened_; i < round_.size; ++i) {
    const Agent& agent = agents_[round_.begin + i];
    if (!agent.kept_out) agents.push_back(agent.recipe.id);
  }
  return agents;
}

// Room was waited for long enough: those who wait are not waited for. Where nobody of a wave found
// any, none is sought for the waves behind it.
void Contemplation::Course::NarrowWaiting() {
  AdvanceRound();  // A decision comes after what can be counted.
  if (stage_ != Stage::kThink || narrow_due_ < absl::InfiniteFuture()) return;
  if (!gang_entered_ && Least() > 0 && !AnyOfRoundEntered()) {
    // Without anybody there is no answer: the deadline is the bound.
    narrow_due_ = now_ + limits_.narrow_wait;
    return;
  }
  if (!gang_entered_) WithdrawUnanswered();
  std::vector<AgentId> agents = Dispensable(gang_entered_ ? Waiting() : ToEnter());
  if (round_.kind == Round::Kind::kAnswer) {  // Who is needed for the minimum is waited for.
    const auto needed = static_cast<size_t>(std::max(0, Least() - Entered()));
    agents.erase(agents.begin(), agents.begin() + std::min(needed, agents.size()));
  }
  if (!agents.empty()) Narrow(NarrowOf(std::move(agents)));
}

// Those of them without whom the round may go on. A part for which nobody has entered waits for its
// agent: there the deadline is the bound.
std::vector<AgentId> Contemplation::Course::Dispensable(std::vector<AgentId> agents) const {
  if (round_.kind != Round::Kind::kParts) return agents;
  std::vector<bool> answered(parts_.size());
  for (const Agent& agent : agents_) {
    const AgentId id = agent.recipe.id;
    if (agent.entered && InRound(id)) answered[static_cast<size_t>(RoundOf(id))] = true;
  }
  std::erase_if(agents, [&](AgentId id) { return !answered[static_cast<size_t>(RoundOf(id))]; });
  return agents;
}

// Whether agents of the round are not told the same: then one may be refused for what it is told.
bool Contemplation::Course::ToldApart() const {
  return round_.kind == Round::Kind::kParts || (before_ && plan_.drafts > 0);
}

// A gang of such agents was refused, not for want of room. Those that do not fit together enter one
// after another. Otherwise somebody's prompt is at fault, and halves are tried until it is known
// whose: he, and who is asked the same, is kept out, and the others are sent together again.
void Contemplation::Course::RefusedApart(const Refused& refused) {
  const int size = static_cast<int>(refused.agents.size());
  const bool fits = absl::IsOutOfRange(refused.why) && refused.width > 0 && refused.width < size;
  if (fits || size > 1) {
    gang_limit_ = fits ? refused.width : size / 2;
    return;
  }
  gang_limit_ = 0;
  std::vector<AgentId> out = Waiting();
  const AgentId wrong = refused.agents.front();
  std::erase_if(out, [&](AgentId id) {
    return id != wrong && (StageOf(id) != kPartStage || RoundOf(id) != RoundOf(wrong));
  });
  Narrow(NarrowOf(std::move(out)));
}

// A gang behind the first wave was refused: fewer are tried, then one at a time; of a round that
// has nobody yet, no fewer than it needs.
void Contemplation::Course::WaveRefused(const Refused& refused) {
  const int size = static_cast<int>(refused.agents.size());
  const int least = Entered() > 0 ? 0 : Least();
  if (!absl::IsResourceExhausted(refused.why)) {
    if (ToldApart()) {
      RefusedApart(refused);
      return WaitForRoom();
    }
    // Whatever the group says, fewer than it refused.
    const int width = std::min(refused.width, size - 1);
    if (width < least) return Fail(refused.why);
    const int waiting = static_cast<int>(ByPlace(Waiting())[refused.place].size());
    const int out = waiting - std::max(0, width);
    const bool too_few =
        before_ && Entered() + static_cast<int>(ToEnter().size()) - out < FewestToSpeak();
    too_few ? Narrow(NarrowOf(ToEnter())) : NarrowTo(refused, width);
    return WaitForRoom();
  }
  credits_ = 0;
  gang_limit_ = std::max({1, least, size / 2});
  if (size <= gang_limit_) retry_due_ = now_ + limits_.retry_wait;
  WaitForRoom();
}

// What others leave of the group: the family's own agents make nothing dear to it.
void Contemplation::Course::NoteLoad(int credits, int running, int places) {
  const auto own =
      static_cast<int>(std::count_if(agents_.begin(), agents_.end(), [](const Agent& agent) {
        return agent.seat == Seat::kSent || agent.seat == Seat::kTaken;
      }));
  credits_ = std::max(0, credits);
  load_ = LoadLevel(places > 0 ? places : credits_ + running, running - own);
}

// How many agents of the round may enter now: as many as are worth it at this load. Parts have no
// price: each is needed.
int Contemplation::Course::MayEnter() const {
  const int most = static_cast<int>(round_.size);
  const bool parts = round_.kind == Round::Kind::kParts;
  const int least = parts ? most : before_ ? FewestToSpeak() : std::max(1, Least());
  return std::max(0, WidthAt(load_, least, most, Certainty()) - Entered());
}

}  // namespace conclave::router
