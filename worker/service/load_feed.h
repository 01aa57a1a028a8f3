#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/status/status.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "common/family.h"

namespace conclave::worker {

// One router that watches the load. It is told at once, then what changed, and after `heartbeat`
// without a change the same again; while a write is in progress only the latest load waits.
// Thread-safe; no lock is held while it calls out. Shared by its call and the feed.
class LoadWatch : public std::enable_shared_from_this<LoadWatch> {
 public:
  struct Wire {
    std::function<void(const GroupLoad&)> write;  // Ends in one OnWritten.
    std::function<void(const absl::Status&)> finish;
  };
  LoadWatch(Wire wire, absl::Duration heartbeat) : wire_(std::move(wire)), heartbeat_(heartbeat) {}

  // What the load is at `now`.
  void Offer(const GroupLoad& load, absl::Time now);
  void OnWritten(bool ok);
  void End(const absl::Status& why);
  bool ended() const;

 private:
  void Advance();

  const Wire wire_;
  const absl::Duration heartbeat_;
  mutable absl::Mutex mutex_;
  std::optional<GroupLoad> last_ ABSL_GUARDED_BY(mutex_), next_ ABSL_GUARDED_BY(mutex_);
  absl::Time last_at_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> ending_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false, finished_ ABSL_GUARDED_BY(mutex_) = false;
  int calls_out_ ABSL_GUARDED_BY(mutex_) = 0;  // Threads inside wire_.
};

// All routers that watch. Thread-safe.
class LoadFeed {
 public:
  static constexpr size_t kMostWatches = 1024;

  explicit LoadFeed(absl::Duration heartbeat) : heartbeat_(heartbeat) {}

  // Tells the watch what was published last. kResourceExhausted: too many.
  absl::Status Add(const std::shared_ptr<LoadWatch>& watch);
  // Everybody is told if it is news to them.
  void Publish(const GroupLoad& load, absl::Time now);
  // Ends every watch; later ones at once.
  void EndAll(const absl::Status& why);
  absl::Duration heartbeat() const { return heartbeat_; }

 private:
  const absl::Duration heartbeat_;
  absl::Mutex mutex_;
  std::optional<GroupLoad> load_ ABSL_GUARDED_BY(mutex_);
  absl::Time load_at_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> ended_ ABSL_GUARDED_BY(mutex_);
  std::map<LoadWatch*, std::shared_ptr<LoadWatch>> watches_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace conclave::worker
