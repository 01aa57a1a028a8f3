#pragma once

#include <absl/status/statusor.h>

#include <optional>
#include <string>
#include <vector>

#include "worker/launch/judge.h"

namespace conclave::worker {

// One child process. The destructor kills and reaps it, so none is ever left behind. Movable; one
// thread.
class Process {
 public:
  // Starts `program` with its own process group (a Ctrl-C in a terminal reaches the launcher
  // alone), no blocked signals, default dispositions, and the standard streams of the caller.
  // Other descriptors that are closed on exec stay so, except `inherited_fd`.
  static absl::StatusOr<Process> Spawn(const std::string& program,
                                       const std::vector<std::string>& arguments, int inherited_fd);

  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  ~Process();

  int pid() const { return pid_; }
  // Looks, without waiting, whether it has ended, and reaps it. nullopt while it runs.
  std::optional<RankExit> Exit();
  // Nothing happens when it was reaped.
  void Signal(int signal);
  // Waits for its end. REQUIRES: it was sent SIGKILL.
  RankExit Reap();

 private:
  explicit Process(int pid) : pid_(pid) {}
  void End();

  int pid_ = -1;  // -1: moved from.
  std::optional<RankExit> exit_;
};

}  // namespace conclave::worker
