#include "cli/interrupt.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "cli/exit_code.h"
#include "cli/screen_guard.h"

namespace conclave::cli {

InterruptWatch::InterruptWatch(std::function<void()> first) : first_(std::move(first)) {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  thread_ = std::thread([this] { Wait(); });
}

InterruptWatch::~InterruptWatch() {
  done_ = true;
  pthread_kill(thread_.native_handle(), SIGINT);  // Ends the wait; `done_` tells it from Ctrl-C.
  thread_.join();
  pthread_sigmask(SIG_UNBLOCK, &signals_, nullptr);
}

void InterruptWatch::Wait() {
  int signal = 0;
  sigwait(&signals_, &signal);
  if (done_) return;
  interrupted_ = true;
  first_();
  sigwait(&signals_, &signal);
  if (done_) return;
  // The prompt shall not appear inside what was drawn; but a terminal that takes nothing (stopped
  // with Ctrl-S, a dead connection) shall not hold up the end.
  std::thread([] {
    if (ScreenGuard::Leave()) return;
    [[maybe_unused]] const ssize_t ignored = write(STDERR_FILENO, "\n", 1);
  }).detach();
  poll(nullptr, 0, 50);
  std::_Exit(kExitInterrupted);
}

}  // namespace conclave::cli
