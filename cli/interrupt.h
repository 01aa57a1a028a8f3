#pragma once

#include <atomic>
#include <csignal>
#include <functional>
#include <thread>

namespace conclave::cli {

// Ctrl-C while it lives: the first one makes a call, the second one ends the program at once with
// kExitInterrupted. SIGINT is blocked in the thread that makes it and in all that are started
// after it, so make it before whatever starts threads. At most one in a program.
class InterruptWatch {
 public:
  // `first` is called on another thread, once.
  explicit InterruptWatch(std::function<void()> first);
  ~InterruptWatch();
  InterruptWatch(const InterruptWatch&) = delete;
  InterruptWatch& operator=(const InterruptWatch&) = delete;
  bool interrupted() const { return interrupted_; }

 private:
  void Wait();

  std::function<void()> first_;
  sigset_t signals_;
  std::atomic<bool> done_ = false, interrupted_ = false;
  std::thread thread_;  // Last: it uses the others.
};

}  // namespace conclave::cli
