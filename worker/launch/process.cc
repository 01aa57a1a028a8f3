#include "worker/launch/process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
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
    posix_spawn_file_actions_adddup2(&actions_, inherited_fd, Process::kInheritedFd);
    posix_spawn_file_actions_addclosefrom_np(&actions_, Process::kInheritedFd + 1);
    sigset_t drain, all;
    sigemptyset(&drain);
    for (const int each : {SIGTERM, SIGINT}) sigaddset(&drain, each);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes_, &drain);
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
    : pid_(std::exchange(other.pid_, -1)),
      stopped_(other.stopped_),
      exit_(std::exchange(other.exit_, std::nullopt)) {}

Process& Process::operator=(Process&& other) noexcept {
  if (this == &other) return *this;
  End();
  pid_ = std::exchange(other.pid_, -1);
  stopped_ = other.stopped_;
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
  pid_t changed = 0;
  while (!exit_.has_value() &&
         (changed = waitpid(pid_, &status, WNOHANG | WUNTRACED | WCONTINUED)) == pid_) {
    stopped_ = WIFSTOPPED(status);
    if (!stopped_ && !WIFCONTINUED(status)) exit_ = ToExit(status);
  }
  CHECK(exit_.has_value() || changed == 0 || errno == EINTR);
  return exit_;
}

void Process::Signal(int signal) {
  if (!exit_.has_value()) kill(pid_, signal);
}

// SIGCHLD is not waited for: it may be another child's, or be handled elsewhere.
RankExit Process::Reap(absl::Duration impatience, const std::function<void()>& on_wait) {
  constexpr absl::Duration kLook = absl::Milliseconds(1);
  const timespec look = absl::ToTimespec(kLook);
  for (absl::Duration waited; !Exit().has_value(); waited += kLook) {
    if (waited >= impatience) {
      if (on_wait) on_wait();
      waited = absl::ZeroDuration();
    }
    clock_nanosleep(CLOCK_MONOTONIC, 0, &look, nullptr);
  }
  return *exit_;
}

}  // namespace conclave::worker
