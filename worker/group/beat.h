#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>

#include "worker/group/rank_cell.h"

namespace conclave::worker {

struct BeatOptions {
  absl::Duration interval = absl::Milliseconds(50);
  // How long the launcher's beat may stand still, counted in own intervals: then launcher_silent();
  // then on_launcher_lost.
  absl::Duration silent_after = absl::Seconds(1);
  absl::Duration lost_after = absl::Seconds(10);
};

// A rank's sign of life: a thread that moves the cell's beat and watches the launcher's. Start it
// before the weights are loaded. The cell and `launcher_beat` must outlive it.
class Beat {
 public:
  // `on_launcher_lost` is called once, on the beat's thread; a rank ends its process in it.
  Beat(RankCell& cell, const std::atomic<uint64_t>& launcher_beat,
       std::function<void()> on_launcher_lost, const BeatOptions& options = {});
  ~Beat();
  Beat(const Beat&) = delete;
  Beat& operator=(const Beat&) = delete;

  // The leader refuses new families while this holds. Any thread.
  bool launcher_silent() const { return silent_.load(std::memory_order_relaxed); }

 private:
  void Run();

  const BeatOptions options_;
  RankCell& cell_;
  const std::atomic<uint64_t>& launcher_beat_;
  const std::function<void()> on_launcher_lost_;
  std::atomic<bool> silent_{false};
  absl::Mutex mutex_;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // Last: it uses all of the above.
};

}  // namespace conclave::worker
