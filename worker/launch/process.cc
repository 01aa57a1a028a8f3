#include "worker/launch/process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace conclave::worker {
namespace {

// What posix_spawn does to the child before its first instruction.
class SpawnOrders {
 public:
  explicit SpawnOrders(int inherited_fd) {
    posix_spawn_file_actions_init(&actions_);
    posix_spawnattr_init(&attributes_);
    // A descriptor duplicated onto itself loses its close-on-exec mark, in the child alone.
    posix_spawn_file_actions_adddup2(&actions_, inherited_fd, inherited_fd);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setsigdefault(&attributes_, &all);
    posix_spawnattr_setpgroup(&attributes_, 0);
    posix_spawnattr_setflags(
        &attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  }
  ~SpawnOrders() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnOrders(const SpawnOrders&) = delete;
  SpawnOrders& operator=(const SpawnOrders&) = delete;

  const posix_spawn_file_actions_t* actions() const { return &actions_; }
  const posix_spawnattr_t* attributes() const { return &attributes_; }

 private:
  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

RankExit ToExit(int status) {
  if (WIFSIGNALED(status)) return {.signal = WTERMSIG(status)};
  return {.code = WEXITSTATUS(status)};
}

}  // namespace

absl::StatusOr<Process> Process::Spawn(const std::string& program,
                                       const std::vector<std::string>& arguments,
                                       int inherited_fd) {
  std::vector<char*> argv{const_cast<char*>(program.c_str())};
  for (const std::string& each : arguments) argv.push_back(const_cast<char*>(each.c_str()));
  argv.push_back(nullptr);
  const SpawnOrders orders(inherited_fd);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, program.c_str(), orders.actions(), orders.attributes(),
                                argv.data(), environ);
  if (error != 0) return Unavailable("cannot start {}: {}", program, std::strerror(error));
  return Process(pid);
}

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), exit_(std::exchange(other.exit_, std::nullopt)) {}

Process& Process::operator=(Process&& other) noexcept {
  if (this == &other) return *this;
  End();
  pid_ = std::exchange(other.pid_, -1);
  exit_ = std::exchange(other.exit_, std::nullopt);
  return *this;
}

Process::~Process() { End(); }

void Process::End() {
  if (pid_ < 0 || exit_.has_value()) return;
  Signal(SIGKILL);
  Reap();
}

std::optional<RankExit> Process::Exit() {
  if (exit_.has_value()) return exit_;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) == pid_) exit_ = ToExit(status);
  return exit_;
}

void Process::Signal(int signal) {
  if (!exit_.has_value()) kill(pid_, signal);
}

RankExit Process::Reap() {
  while (!exit_.has_value()) {
    int status = 0;
    const pid_t reaped = waitpid(pid_, &status, 0);
    CHECK(reaped == pid_ || errno == EINTR);
    if (reaped == pid_) exit_ = ToExit(status);
  }
  return *exit_;
}

}  // namespace conclave::worker
