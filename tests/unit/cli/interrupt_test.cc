#include "cli/interrupt.h"

#include <absl/synchronization/notification.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <string>

#include "cli/exit_code.h"

namespace conclave::cli {
namespace {

TEST(InterruptWatchTest, TheFirstCtrlCMakesTheCall) {
  absl::Notification called;
  const InterruptWatch watch([&] { called.Notify(); });
  EXPECT_FALSE(watch.interrupted());
  kill(getpid(), SIGINT);
  ASSERT_TRUE(called.WaitForNotificationWithTimeout(absl::Seconds(60)));
  EXPECT_TRUE(watch.interrupted());
}

TEST(InterruptWatchTest, WithoutOneItEndsQuietly) {
  bool called = false;
  {
    const InterruptWatch watch([&] { called = true; });
  }
  EXPECT_FALSE(called);
}

// Two Ctrl-C, with a standard error that takes nothing any more.
[[noreturn]] void InterruptTwiceAtABlockedTerminal() {
  int ends[2];
  if (pipe(ends) != 0) _exit(1);
  fcntl(ends[1], F_SETFL, O_NONBLOCK);
  const std::string page(4096, ' ');
  while (write(ends[1], page.data(), page.size()) > 0) {
  }
  while (write(ends[1], " ", 1) > 0) {
  }
  fcntl(ends[1], F_SETFL, 0);
  dup2(ends[1], STDERR_FILENO);
  absl::Notification called;
  const InterruptWatch watch([&] { called.Notify(); });
  kill(getpid(), SIGINT);
  called.WaitForNotification();
  kill(getpid(), SIGINT);
  absl::Notification().WaitForNotificationWithTimeout(absl::Seconds(60));
  _exit(2);
}

TEST(InterruptWatchDeathTest, TheSecondCtrlCEndsTheProgramThoughTheTerminalTakesNothing) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(InterruptTwiceAtABlockedTerminal(), testing::ExitedWithCode(kExitInterrupted), "");
}

}  // namespace
}  // namespace conclave::cli
