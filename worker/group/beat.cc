#include "worker/group/beat.h"

#include <utility>

#include "common/check.h"
#include "worker/group/patience.h"

namespace conclave::worker {

Beat::Beat(RankCell& cell, const std::atomic<uint64_t>& launcher_beat,
           std::function<void()> on_launcher_lost, const BeatOptions& options)
    : options_(options),
      cell_(cell),
      launcher_beat_(launcher_beat),
      on_launcher_lost_(std::move(on_launcher_lost)),
      thread_([this] { Run(); }) {
  CHECK(options.interval > absl::ZeroDuration());
}

Beat::~Beat() {
  {
    absl::MutexLock lock(&mutex_);
    ending_ = true;
  }
  thread_.join();
}

void Beat::Run() {
  Stillness launcher;
  bool lost = false;
  absl::MutexLock lock(&mutex_);
  do {
    cell_.beat.fetch_add(1, std::memory_order_release);
    const absl::Duration still =
        launcher.Turn(launcher_beat_.load(std::memory_order_acquire)) * options_.interval;
    silent_.store(still >= options_.silent_after, std::memory_order_relaxed);
    if (still >= options_.lost_after && !lost) {
      lost = true;
      on_launcher_lost_();
    }
  } while (!mutex_.AwaitWithTimeout(absl::Condition(&ending_), options_.interval));
}

}  // namespace conclave::worker
