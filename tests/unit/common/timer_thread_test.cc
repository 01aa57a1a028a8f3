#include "common/timer_thread.h"

#include <absl/synchronization/notification.h>
#include <absl/time/clock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <vector>

namespace conclave {
namespace {

TEST(TimerThreadTest, CallsComeInOrderOfTheirTimes) {
  std::vector<int> order;
  absl::Notification done;
  TimerThread timers;
  const absl::Time now = absl::Now();

  timers.At(now + absl::Milliseconds(30), [&] {
    order.push_back(3);
    done.Notify();
  });
  timers.At(now + absl::Milliseconds(20), [&] { order.push_back(2); });
  timers.At(now - absl::Seconds(1), [&] { order.push_back(1); });

  done.WaitForNotification();
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

TEST(TimerThreadTest, ACancelledCallIsNeverMade) {
  bool called = false;
  {
    TimerThread timers;
    const TimerThread::Id id = timers.At(absl::Now() + absl::Hours(1), [&] { called = true; });
    timers.Cancel(id);
    timers.Cancel(id);
    timers.Cancel(0);
  }
  EXPECT_FALSE(called);
}

TEST(TimerThreadTest, CancelWaitsForTheCallThatRuns) {
  absl::Notification began, go_on;
  std::atomic<bool> ended = false;
  TimerThread timers;
  const TimerThread::Id id = timers.At(absl::Now(), [&] {
    began.Notify();
    go_on.WaitForNotification();
    ended = true;
  });
  began.WaitForNotification();
  std::thread release([&] { go_on.Notify(); });

  timers.Cancel(id);

  EXPECT_TRUE(ended);
  release.join();
}

TEST(TimerThreadTest, ACallMayCancelItselfAndMakeAnother) {
  absl::Notification done;
  std::atomic<TimerThread::Id> id = 0;
  TimerThread timers;

  id = timers.At(absl::Now() + absl::Milliseconds(5), [&] {
    timers.Cancel(id);
    timers.At(absl::Now(), [&] { done.Notify(); });
  });

  done.WaitForNotification();
}

TEST(TimerThreadTest, PendingCallsAreDroppedAtTheEnd) {
  bool called = false;
  {
    TimerThread().At(absl::Now() + absl::Hours(1), [&] { called = true; });
  }
  EXPECT_FALSE(called);
}

}  // namespace
}  // namespace conclave
