#include "common/timer_thread.h"

#include <absl/time/clock.h>

namespace conclave {

TimerThread::TimerThread() : thread_([this] { Run(); }) {}

TimerThread::~TimerThread() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

TimerThread::Id TimerThread::At(absl::Time when, std::function<void()> call) {
  absl::MutexLock lock(&mutex_);
  const Id id = ++last_;
  calls_.emplace(Key{when, id}, std::move(call));
  times_.emplace(id, when);
  changed_ = true;
  return id;
}

void TimerThread::Cancel(Id id) {
  std::function<void()> dropped;  // Destroyed after the lock is gone: it may own anything.
  absl::MutexLock lock(&mutex_);
  if (const auto time = times_.find(id); time != times_.end()) {
    const auto call = calls_.find(Key{time->second, id});
    dropped = std::move(call->second);
    calls_.erase(call);
    times_.erase(time);
    return;
  }
  if (std::this_thread::get_id() == thread_.get_id()) return;
  while (id != 0 && running_ == id) call_ended_.Wait(&mutex_);
}

void TimerThread::Run() {
  absl::MutexLock lock(&mutex_);
  while (!stopping_) {
    const absl::Time next = calls_.empty() ? absl::InfiniteFuture() : calls_.begin()->first.first;
    if (next > absl::Now()) {
      changed_ = false;
      mutex_.AwaitWithDeadline(absl::Condition(this, &TimerThread::Ready), next);
      continue;
    }
    auto entry = calls_.extract(calls_.begin());
    running_ = entry.key().second;
    times_.erase(running_);
    mutex_.Unlock();
    entry.mapped()();
    entry = {};  // What the call owned goes before anyone is told that it ended.
    mutex_.Lock();
    running_ = 0;
    call_ended_.SignalAll();
  }
}

}  // namespace conclave
