#include "cli/screen_guard.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <string_view>

#include "cli/screen.h"

namespace conclave::cli {
namespace {

std::atomic<bool> g_shown = false;
std::atomic<bool> g_stopping = false;
static_assert(std::atomic<bool>::is_always_lock_free);  // Signal handlers use it.

}  // namespace

bool ScreenGuard::Enter() { return !g_shown.exchange(true); }

bool ScreenGuard::IsStopping() { return g_stopping; }

bool ScreenGuard::Leave() {
  if (!g_shown.exchange(false)) return false;
  std::string_view bytes = kLeaveScreen;
  while (!bytes.empty()) {
    const ssize_t written = write(STDOUT_FILENO, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) break;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

void ScreenGuard::OnSignal(int signal) {
  const int error = errno;
  g_stopping = true;
  Leave();
  raise(signal);  // The default again, at once: SA_RESETHAND, SA_NODEFER.
  // Only a program that was stopped gets here, when it goes on.
  Install(signal);
  g_stopping = false;
  errno = error;
}

void ScreenGuard::Install(int signal) {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER | SA_RESTART);
  sigaction(signal, &action, nullptr);
}

ScreenGuard::ScreenGuard() {
  for (const int signal : kSignals) {
    struct sigaction before = {};
    sigaction(signal, nullptr, &before);
    // What a parent had ignored (nohup) stays so.
    if (before.sa_handler == SIG_DFL) Install(signal);
  }
}

ScreenGuard::~ScreenGuard() {
  for (const int signal : kSignals) {
    struct sigaction now = {};
    sigaction(signal, nullptr, &now);
    if (now.sa_handler == OnSignal) std::signal(signal, SIG_DFL);
  }
  Leave();
}

}  // namespace conclave::cli
