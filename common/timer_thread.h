#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include <cstdint>
#include <functional>
#include <map>
#include <thread>
#include <utility>

namespace conclave {

// One thread that makes calls at given times, by the system's clock. Thread-safe. Calls must be
// short: they wait for each other.
class TimerThread {
 public:
  using Id = uint64_t;  // Never 0.

  TimerThread();
  // Waits for a running call; pending ones are never made.
  ~TimerThread();

  // Makes `call` once, at `when` or as soon as possible after it.
  Id At(absl::Time when, std::function<void()> call);

  // After it returns, the call is not running and will not be made, except when the call itself
  // cancels. Of a made call, or of 0: nothing happens.
  void Cancel(Id id);

 private:
  using Key = std::pair<absl::Time, Id>;

  void Run();
  bool Ready() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_ || changed_; }

  absl::Mutex mutex_;
  std::map<Key, std::function<void()>> calls_ ABSL_GUARDED_BY(mutex_);
  std::map<Id, absl::Time> times_ ABSL_GUARDED_BY(mutex_);
  Id last_ ABSL_GUARDED_BY(mutex_) = 0;
  Id running_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool changed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::CondVar call_ended_;
  std::thread thread_;  // Last: it uses the others.
};

}  // namespace conclave
