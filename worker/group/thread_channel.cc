#include "worker/group/thread_channel.h"

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/clock.h>

#include <algorithm>
#include <deque>
#include <map>
#include <string>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "worker/group/patience.h"

namespace conclave::worker {

struct ThreadChannel::State {
  State(int followers, size_t most)
      : capacity(most), next(static_cast<size_t>(followers)), marks(next.size()) {}

  const size_t capacity;
  absl::Mutex mutex;
  std::deque<std::string> messages ABSL_GUARDED_BY(mutex);
  size_t dropped ABSL_GUARDED_BY(mutex) = 0;        // Messages that everybody has read.
  std::vector<size_t> next ABSL_GUARDED_BY(mutex);  // For each follower: dropped ones counted too.
  std::vector<std::map<uint64_t, uint64_t>> marks ABSL_GUARDED_BY(mutex);  // Number to hash.
  bool closed ABSL_GUARDED_BY(mutex) = false;

  // Waits until `ready()`, which is called under the mutex.
  template <typename Ready>
  absl::Status WaitUntil(absl::Duration patience, Ready ready)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    auto over = [this, &ready]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return closed || ready(); };
    Patience left(patience);
    while (!over()) {
      if (left.over()) return DeadlineExceeded("waited in vain");
      const absl::Duration turn = left.Turn();
      const absl::Time before = absl::Now();
      mutex.AwaitWithTimeout(absl::Condition(&over), turn);
      left.Spend(turn, absl::Now() - before);
    }
    return closed ? Cancelled("the control channel is closed") : absl::OkStatus();
  }
};

class ThreadChannel::Leader : public LeaderChannel {
 public:
  explicit Leader(State& state, int num_followers) : state_(state), followers_(num_followers) {}

  int num_followers() const override { return followers_; }

  absl::Status Send(uint64_t number, std::string_view message, absl::Duration patience) override {
    if (message.size() > kMaxMessageBytes) {
      return OutOfRange("message has {} bytes; the limit is {}", message.size(), kMaxMessageBytes);
    }
    if (followers_ == 0) return absl::OkStatus();
    absl::MutexLock lock(&state_.mutex);
    const absl::Status room = state_.WaitUntil(patience, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      return state_.messages.size() < state_.capacity;
    });
    if (!room.ok()) return Annotate(room, fmt::format("no room for step {}", number));
    state_.messages.emplace_back(message);
    return absl::OkStatus();
  }

  absl::StatusOr<DoneMark> AwaitDone(int follower, uint64_t number,
                                     absl::Duration patience) override {
    absl::MutexLock lock(&state_.mutex);
    auto& marks = state_.marks.at(static_cast<size_t>(follower));
    RETURN_IF_ERROR(state_.WaitUntil(patience, [&] { return !marks.empty(); }));
    const DoneMark done{.number = marks.begin()->first, .hash = marks.begin()->second};
    marks.erase(marks.begin());
    if (done.number != number) {
      return DataLoss("rank {} reports step {} in place of {}", follower + 1, done.number, number);
    }
    return done;
  }

  void Close() override {
    absl::MutexLock lock(&state_.mutex);
    state_.closed = true;
  }

 private:
  State& state_;
  const int followers_;
};

class ThreadChannel::Follower : public FollowerChannel {
 public:
  Follower(State& state, int index) : state_(state), index_(static_cast<size_t>(index)) {}

  absl::StatusOr<std::string> Receive() override {
    absl::MutexLock lock(&state_.mutex);
    RETURN_IF_ERROR(
        state_.WaitUntil(absl::InfiniteDuration(), [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
          return state_.next[index_] < state_.dropped + state_.messages.size();
        }));
    std::string message = state_.messages[state_.next[index_]++ - state_.dropped];
    const size_t slowest = *std::min_element(state_.next.begin(), state_.next.end());
    for (; state_.dropped < slowest; ++state_.dropped) state_.messages.pop_front();
    return message;
  }

  void Report(const DoneMark& mark) override {
    absl::MutexLock lock(&state_.mutex);
    state_.marks[index_][mark.number] = mark.hash;
  }

 private:
  State& state_;
  const size_t index_;
};

ThreadChannel::ThreadChannel(int num_followers, size_t capacity)
    : state_(std::make_unique<State>(num_followers, capacity)),
      leader_(std::make_unique<Leader>(*state_, num_followers)) {
  CHECK(num_followers >= 0 && capacity > 0);
  for (int i = 0; i < num_followers; ++i) {
    followers_.push_back(std::make_unique<Follower>(*state_, i));
  }
}

ThreadChannel::~ThreadChannel() = default;

LeaderChannel& ThreadChannel::leader() { return *leader_; }
FollowerChannel& ThreadChannel::follower(int index) {
  return *followers_.at(static_cast<size_t>(index));
}

}  // namespace conclave::worker
