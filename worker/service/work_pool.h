#pragma once

#include <functional>
#include <thread>
#include <vector>

#include "common/bounded_queue.h"

namespace conclave::worker {

// A few threads for work that is too long for gRPC's own: rendering and tokenising prompts. What
// waits is bounded.
class WorkPool {
 public:
  WorkPool(int threads, size_t capacity);
  ~WorkPool();  // What was submitted still runs.
  WorkPool(const WorkPool&) = delete;
  WorkPool& operator=(const WorkPool&) = delete;

  // False when `capacity` jobs wait already; the job is then dropped. Any thread.
  bool Submit(std::function<void()> job);

 private:
  void Run();

  BoundedQueue<std::function<void()>> jobs_;
  std::vector<std::thread> threads_;
};

}  // namespace conclave::worker
