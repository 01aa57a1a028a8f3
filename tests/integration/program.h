#pragma once

#include <absl/time/clock.h>
#include <absl/time/time.h>
#include <sys/types.h>

#include <string>
#include <vector>

namespace conclave {

// A real process of ours under test. Its output goes to a file in the test's folder. Killed and
// reaped when it leaves scope.
class Program {
 public:
  // Starts bin/NAME of the build with the arguments. Output and errors go to `log`.
  Program(const std::string& name, std::vector<std::string> arguments, std::string log);
  // Any command; its first word is looked for in PATH.
  Program(std::vector<std::string> command, std::string log);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // bin/NAME of the build; an absolute path is itself.
  static std::string PathOf(const std::string& name);

  pid_t pid() const { return pid_; }
  void Signal(int signal);
  // The exit code, 128 + signal when a signal ended it, or -1 when it still runs after `timeout`.
  int Wait(absl::Duration timeout);
  std::string Output() const;

 private:
  pid_t pid_ = -1;
  std::string log_;
  int exit_code_ = -1;
};

// Polls until `ready` gives true or `timeout` is over; what it gave last.
template <typename Condition>
bool Eventually(absl::Duration timeout, Condition ready);

// The file's bytes; empty when it does not exist.
std::string FileText(const std::string& path);

// A fresh folder that only this test uses.
std::string FreshFolder();

// Whether the process runs, or is stopped: not one that ended, whoever reaps it.
bool IsAlive(pid_t pid);

// Process ids of the direct children of `parent`.
std::vector<pid_t> ChildrenOf(pid_t parent);

template <typename Condition>
bool Eventually(absl::Duration timeout, Condition ready) {
  const absl::Time end = absl::Now() + timeout;
  while (!ready()) {
    if (absl::Now() > end) return false;
    absl::SleepFor(absl::Milliseconds(10));  // Between two looks at a process of the outside world.
  }
  return true;
}

}  // namespace conclave
