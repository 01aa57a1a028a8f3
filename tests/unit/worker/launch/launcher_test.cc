#include "worker/launch/launcher.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <vector>

namespace conclave::worker {
namespace {

using ::testing::HasSubstr;

constexpr int kMaxWaitMs = 60'000;

// A launcher of two ranks as a process of its own, whose log is read line by line.
class LauncherProcess {
 public:
  LauncherProcess() {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    std::string program = CONCLAVE_BINARY_DIR "/launch_rank_child";
    char* argv[] = {program.data(), nullptr};
    EXPECT_EQ(posix_spawn(&pid_, program.c_str(), &actions, nullptr, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    out_ = ends[0];
  }
  ~LauncherProcess() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    close(out_);
  }

  // Reads on until the log has `text`; false when a minute went by, or it ended before.
  bool ReadUntil(const std::string& text) {
    while (log_.find(text) == std::string::npos) {
      if (!ReadSome()) return false;
    }
    return true;
  }
  // Until nobody, ranks included, holds the log open.
  bool ReadUntilEnd() {
    while (ReadSome()) {
    }
    return ended_;
  }

  void Signal(int signal) const { kill(pid_, signal); }
  int Reap() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return status;
  }
  const std::string& log() const { return log_; }
  // The pids in the last "epoch N begins" line.
  std::vector<int> RankPids() const {
    const size_t at = log_.rfind("(pids ") + 6;
    const size_t comma = log_.find(", ", at);
    return {std::stoi(log_.substr(at)), std::stoi(log_.substr(comma + 2))};
  }

 private:
  bool ReadSome() {
    pollfd ready{.fd = out_, .events = POLLIN, .revents = 0};
    if (poll(&ready, 1, kMaxWaitMs) <= 0) return false;
    char bytes[4096];
    const ssize_t size = read(out_, bytes, sizeof(bytes));
    ended_ = size == 0;
    if (size <= 0) return false;
    log_.append(bytes, static_cast<size_t>(size));
    return true;
  }

  pid_t pid_ = -1;
  int out_ = -1;
  bool ended_ = false;
  std::string log_;
};

TEST(LauncherTest, SigtermDrainsAndEndsWell) {
  LauncherProcess launcher;
  ASSERT_TRUE(launcher.ReadUntil("epoch 1 is ready"));

  launcher.Signal(SIGTERM);

  ASSERT_TRUE(launcher.ReadUntilEnd());
  const int status = launcher.Reap();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << launcher.log();
  EXPECT_THAT(launcher.log(), HasSubstr("epoch 1 is drained"));
}

TEST(LauncherTest, AKilledRankIsReplacedByANewEpoch) {
  LauncherProcess launcher;
  ASSERT_TRUE(launcher.ReadUntil("epoch 1 is ready"));

  kill(launcher.RankPids()[1], SIGKILL);

  EXPECT_TRUE(launcher.ReadUntil("epoch 2 is ready"));
  EXPECT_THAT(launcher.log(), HasSubstr("was killed by signal 9; group ends, epoch 2 begins"));
}

TEST(LauncherTest, RanksDieWithAKilledLauncher) {
  LauncherProcess launcher;
  ASSERT_TRUE(launcher.ReadUntil("epoch 1 is ready"));

  launcher.Signal(SIGKILL);
  launcher.Reap();

  EXPECT_TRUE(launcher.ReadUntilEnd()) << "a rank still holds the log open";
}

}  // namespace
}  // namespace conclave::worker
