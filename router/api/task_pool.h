#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include <deque>
#include <functional>
#include <thread>
#include <vector>

namespace conclave::router {

// Threads that run tasks, each once, in no promised order. Thread-safe. What may be pending is
// bounded by who posts: each request has at most one task.
class TaskPool {
 public:
  explicit TaskPool(int threads);
  // Runs what is pending, then ends.
  ~TaskPool();

  void Post(std::function<void()> task);

 private:
  void Run();
  bool Ready() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return ending_ || !tasks_.empty(); }

  absl::Mutex mutex_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace conclave::router
