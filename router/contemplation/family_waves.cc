#include <algorithm>

#include "common/check.h"
#include "router/contemplation/course.h"

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

}  // namespace conclave::router
