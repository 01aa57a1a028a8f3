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
  CHECK(opened_ <= agents_.size());
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
  return static_cast<int>(std::count_if(agents_.begin(), agents_.end(), [this](const Agent& agent) {
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
  for (size_t i = opened_; i < agents_.size(); ++i) {
    if (!agents_[i].kept_out) agents.push_back(agents_[i].recipe.id);
  }
  return agents;
}

// Room was waited for long enough: those who wait are not waited for. Where nobody of a wave found
// any, none is sought for the waves behind it.
void Contemplation::Course::NarrowWaiting() {
  AdvanceRound();  // A decision comes after what can be counted.
  if (stage_ != Stage::kThink || narrow_due_ < absl::InfiniteFuture()) return;
  if (!gang_entered_) WithdrawUnanswered();
  const std::vector<AgentId> agents = gang_entered_ ? Waiting() : ToEnter();
  if (!agents.empty()) Narrow(NarrowOf(agents));
}

// A gang behind the first wave was refused: fewer are tried, then one at a time.
void Contemplation::Course::WaveRefused(const Refused& refused) {
  const int size = static_cast<int>(refused.agents.size());
  if (!absl::IsResourceExhausted(refused.why)) {
    // Whatever the group says, fewer than it refused.
    return NarrowTo(refused.agents, std::min(refused.width, size - 1));
  }
  credits_ = 0;
  gang_limit_ = std::max(1, size / 2);
  if (size == 1) retry_due_ = now_ + limits_.retry_wait;
}

// What others leave of the group: the family's own agents make nothing dear to it.
void Contemplation::Course::NoteLoad(int credits, int running) {
  const auto own =
      static_cast<int>(std::count_if(agents_.begin(), agents_.end(), [](const Agent& agent) {
        return agent.seat == Seat::kSent || agent.seat == Seat::kTaken;
      }));
  credits_ = std::max(0, credits);
  load_ = LoadLevel(credits_ + own, running - own);
}

// How many agents of the round may enter now: as many as are worth it at this load.
int Contemplation::Course::MayEnter() const {
  const int most = static_cast<int>(plan_.agents.size());
  return std::max(0, WidthAt(load_, plan_.min_agents, most, Certainty()) - Entered());
}

}  // namespace conclave::router
