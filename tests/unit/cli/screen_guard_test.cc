#include "cli/screen_guard.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>

#include "cli/screen.h"

namespace conclave::cli {
namespace {

// A program with a pipe for a terminal, in a process group of its own: a group whose parents are
// all of another session is one that no Ctrl-Z stops, and the tests' own may be such.
class Child {
 public:
  explicit Child(const std::function<void()>& program) {
    int ends[2];
    if (pipe(ends) != 0) return;
    pid_ = fork();
    if (pid_ == 0) {
      setpgid(0, 0);
      dup2(ends[1], STDOUT_FILENO);
      close(ends[0]);
      close(ends[1]);
      program();
      _exit(0);
    }
    close(ends[1]);
    output_ = ends[0];
  }
  ~Child() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    close(output_);
  }

  void Signal(int signal) { kill(pid_, signal); }
  // Blocks until `bytes` have been written; what was written.
  std::string Read(size_t bytes) {
    std::string text(bytes, '\0');
    size_t got = 0;
    while (got < bytes) {
      const ssize_t n = read(output_, text.data() + got, bytes - got);
      if (n <= 0) break;
      got += static_cast<size_t>(n);
    }
    text.resize(got);
    return text;
  }
  // Blocks until it stopped or ended.
  int Wait() {
    int status = 0;
    waitpid(pid_, &status, WUNTRACED);
    return status;
  }

 private:
  pid_t pid_ = -1;
  int output_ = -1;
};

const std::string kLeave = kLeaveScreen;

// Shows the second screen, says so, and shows it again whenever it was left.
void ShowForEver() {
  const ScreenGuard guard;
  while (true) {
    if (ScreenGuard::Enter() && write(STDOUT_FILENO, "!", 1) != 1) return;
    sched_yield();
  }
}

TEST(ScreenGuardTest, TheScreenIsLeftOnceAndOnlyIfItIsShown) {
  Child child([] {
    const ScreenGuard guard;
    EXPECT_FALSE(ScreenGuard::Leave());
    EXPECT_TRUE(ScreenGuard::Enter());
    EXPECT_FALSE(ScreenGuard::Enter());
  });
  EXPECT_EQ(child.Read(kLeave.size() + 1), kLeave);
}

TEST(ScreenGuardTest, ASignalThatEndsTheProgramLeavesTheScreenFirst) {
  for (const int signal : {SIGTERM, SIGHUP, SIGQUIT}) {
    Child child(ShowForEver);
    ASSERT_EQ(child.Read(1), "!");
    child.Signal(signal);
    EXPECT_EQ(child.Read(kLeave.size()), kLeave);
    const int status = child.Wait();
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == signal) << signal;
  }
}

TEST(ScreenGuardTest, CtrlZLeavesTheScreenAndTheProgramShowsItAgainWhenItGoesOn) {
  Child child(ShowForEver);
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(child.Read(1), "!");
    child.Signal(SIGTSTP);
    EXPECT_EQ(child.Read(kLeave.size()), kLeave);
    ASSERT_TRUE(WIFSTOPPED(child.Wait()));
    child.Signal(SIGCONT);
  }
  EXPECT_EQ(child.Read(1), "!");
}

TEST(ScreenGuardTest, SignalsThatWereIgnoredStayIgnored) {
  Child child([] {
    std::signal(SIGHUP, SIG_IGN);
    ShowForEver();
  });
  ASSERT_EQ(child.Read(1), "!");
  child.Signal(SIGHUP);
  child.Signal(SIGTERM);
  const int status = child.Wait();
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

}  // namespace
}  // namespace conclave::cli
