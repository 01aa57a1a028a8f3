#include "worker/launch/launcher.h"

#include <absl/time/clock.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <iterator>
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
  explicit LauncherProcess(std::vector<std::string> arguments = {}) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    std::string program = CONCLAVE_BINARY_DIR "/launch_rank_child";
    std::vector<char*> argv{program.data()};
    for (std::string& each : arguments) argv.push_back(each.data());
    argv.push_back(nullptr);
    EXPECT_EQ(posix_spawn(&pid_, program.c_str(), &actions, nullptr, argv.data(), environ), 0);
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

// Whether a process that is not our child becomes a zombie, or goes, within a minute.
bool EndsByItself(int pid) {
  for (absl::Duration waited; waited < absl::Minutes(1); waited += absl::Milliseconds(5)) {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    const std::string text{std::istreambuf_iterator<char>(stat), {}};
    if (text.empty() || text.find(") Z ") != std::string::npos) return true;
    absl::SleepFor(absl::Milliseconds(5));
  }
  return false;
}

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
  EXPECT_THAT(launcher.log(), HasSubstr("was killed by signal 9 (SIGKILL); epoch 1 ends"));
}

TEST(LauncherTest, AParentThatIgnoresItsChildrenChangesNothing) {
  const auto before = std::signal(SIGCHLD, SIG_IGN);
  LauncherProcess launcher;
  std::signal(SIGCHLD, before);
  ASSERT_TRUE(launcher.ReadUntil("epoch 1 is ready"));

  kill(launcher.RankPids()[0], SIGKILL);

  EXPECT_TRUE(launcher.ReadUntil("epoch 2 is ready"));
  EXPECT_THAT(launcher.log(), HasSubstr("was killed by signal 9 (SIGKILL)"));
}

TEST(LauncherTest, RanksThatAStoppedLauncherLostAreReplacedWhenItGoesOn) {
  LauncherProcess launcher({"--launcher-patience=3s"});
  ASSERT_TRUE(launcher.ReadUntil("epoch 1 is ready"));
  const std::vector<int> old = launcher.RankPids();

  launcher.Signal(SIGSTOP);
  for (const int pid : old) EXPECT_TRUE(EndsByItself(pid));
  launcher.Signal(SIGCONT);

  EXPECT_TRUE(launcher.ReadUntil("epoch 2 is ready"));
  EXPECT_THAT(launcher.log(), HasSubstr("the launcher was silent"));
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
