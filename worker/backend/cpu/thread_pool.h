#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace conclave::worker {

// Threads that share out ranges of independent items. One caller at a time; the caller works too.
class ThreadPool {
 public:
  // `threads` - 1 threads are started. REQUIRES: threads >= 1.
  explicit ThreadPool(int threads);
  ~ThreadPool();

  // Calls work(begin, end) once for each thread's share of 0..items, and returns when all have
  // ended. Shares are cut at fixed places; no item's result may depend on them.
  void Run(int64_t items, const std::function<void(int64_t, int64_t)>& work);

 private:
  void Serve(int thread);
  void DoShare(int thread) const;

  const int count_;
  const std::function<void(int64_t, int64_t)>* work_ = nullptr;
  int64_t items_ = 0;
  std::atomic<uint32_t> round_ = 0;    // Rises when there is work, or the pool ends.
  std::atomic<uint32_t> working_ = 0;  // Threads that have not ended this round.
  std::atomic<bool> ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace conclave::worker
