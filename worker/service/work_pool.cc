#include "worker/service/work_pool.h"

#include <absl/time/time.h>

#include <optional>
#include <utility>

namespace conclave::worker {

WorkPool::WorkPool(int threads, size_t capacity) : jobs_(capacity) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
}

WorkPool::~WorkPool() {
  jobs_.Close();
  for (std::thread& thread : threads_) thread.join();
}

bool WorkPool::Submit(std::function<void()> job) { return jobs_.Push(std::move(job)); }

void WorkPool::Run() {
  // Waiting without end, nullopt means closed and empty.
  while (std::optional<std::function<void()>> job = jobs_.Pop(absl::InfiniteDuration())) (*job)();
}

}  // namespace conclave::worker
