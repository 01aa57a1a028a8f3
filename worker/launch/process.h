#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "worker/launch/judge.h"

namespace conclave::worker {

// One child process. The destructor kills and reaps it, so none is ever left behind. Movable; one
// thread.
class Process {
 public:
  // Where a child finds the descriptor that it inherits.
  static constexpr int kInheritedFd = 3;

  // Starts `program` with its own process group (a Ctrl-C in a terminal reaches the launcher
  // alone), default dispositions, and the standard streams of the caller. SIGTERM and SIGINT are
  // blocked from the first instruction on, so that a drain waits until the child looks for it.
  // `inherited_fd` becomes kInheritedFd; whatever else the caller has open stays outside.
  static absl::StatusOr<Process> Spawn(const std::string& program,
                                       const std::vector<std::string>& arguments, int inherited_fd);

  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  ~Process();

  int pid() const { return pid_; }
  // Looks, without waiting, whether it has ended, and reaps it. nullopt while it runs, or is
  // stopped.
  std::optional<RankExit> Exit();
  // Whether somebody had stopped it (SIGSTOP) when Exit looked last.
  bool stopped() const { return stopped_; }
  // Nothing happens when it was reaped.
  void Signal(int signal);
  // Waits for its end, without end: a process may hang in the kernel. Each time that `impatience`
  // goes by, `on_wait` is called. REQUIRES: it was sent SIGKILL.
  RankExit Reap(absl::Duration impatience = absl::Seconds(1),
                const std::function<void()>& on_wait = {});

 private:
  explicit Process(int pid) : pid_(pid) {}
  void End();

  int pid_ = -1;  // -1: moved from.
  bool stopped_ = false;
  std::optional<RankExit> exit_;
};

}  // namespace conclave::worker
