#pragma once

#include <csignal>

namespace conclave::cli {

// Gives the terminal back however the program leaves it. While it lives, signals that stop or end
// the program (Ctrl-Z, SIGTERM, SIGHUP, SIGQUIT) first leave the second screen, if it is shown, and
// then do what they always do. At most one in a program; the functions may be called from any
// thread.
class ScreenGuard {
 public:
  ScreenGuard();
  ~ScreenGuard();
  ScreenGuard(const ScreenGuard&) = delete;
  ScreenGuard& operator=(const ScreenGuard&) = delete;

  // Notes that the second screen is shown from now on. True: it was not, and the caller has to send
  // kEnterScreen before what it draws.
  static bool Enter();
  // True while a signal stops or ends the program: nothing is to be drawn.
  static bool IsStopping();
  // Sends kLeaveScreen to standard output if the second screen is shown. True: it was. Safe in a
  // signal handler. Blocks while the terminal is held.
  static bool Leave();

 private:
  static constexpr int kSignals[] = {SIGTSTP, SIGTERM, SIGHUP, SIGQUIT};

  static void Install(int signal);
  static void OnSignal(int signal);
};

}  // namespace conclave::cli
