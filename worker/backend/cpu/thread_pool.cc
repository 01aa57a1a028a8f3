#include "worker/backend/cpu/thread_pool.h"

#include "common/check.h"

namespace conclave::worker {
namespace {

constexpr int kSpins = 2000;  // Between two operations of a step, before a thread sleeps.

void AwaitChange(const std::atomic<uint32_t>& word, uint32_t seen) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (word.load(std::memory_order_acquire) != seen) return;
  }
  word.wait(seen, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int threads) : count_(threads) {
  CHECK(threads >= 1);
  for (int i = 1; i < threads; ++i) threads_.emplace_back([this, i] { Serve(i); });
}

ThreadPool::~ThreadPool() {
  ending_ = true;
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::DoShare(int thread) const {
  const int64_t begin = items_ * thread / count_, end = items_ * (thread + 1) / count_;
  if (begin < end) (*work_)(begin, end);
}

void ThreadPool::Run(int64_t items, const std::function<void(int64_t, int64_t)>& work) {
  if (count_ == 1 || items <= 1) {
    if (items > 0) work(0, items);
    return;
  }
  work_ = &work, items_ = items;
  working_.store(static_cast<uint32_t>(count_ - 1), std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  DoShare(0);
  for (uint32_t left; (left = working_.load(std::memory_order_acquire)) != 0;)
    AwaitChange(working_, left);
}

void ThreadPool::Serve(int thread) {
  for (uint32_t seen = 0;;) {
    AwaitChange(round_, seen);
    seen = round_.load(std::memory_order_acquire);
    if (ending_) return;
    DoShare(thread);
    if (working_.fetch_sub(1, std::memory_order_release) == 1) working_.notify_all();
  }
}

}  // namespace conclave::worker
