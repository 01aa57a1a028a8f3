#include "worker/group/group_runner.h"

#include <absl/synchronization/mutex.h>
#include <absl/synchronization/notification.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/status.h"
#include "tests/fakes/fake_step_runner.h"
#include "tests/fakes/recording_sink.h"
#include "tests/fakes/whole_steps.h"
#include "worker/engine/engine.h"
#include "worker/group/follower.h"
#include "worker/group/thread_channel.h"

namespace conclave::worker {
namespace {

// Deadlines that a test waits for: 200 ms. Those that it must not reach: a minute.
constexpr StepCost kHurried{
    .step = {}, .row = {}, .attended = {}, .copied = {}, .margin = absl::Milliseconds(200)};
constexpr StepCost kCalm{.margin = absl::Seconds(60)};

StepPlan Plan(uint64_t number, int samples = 2) {
  StepPlan plan;
  plan.number = number;
  for (int i = 0; i < samples; ++i) {
    plan.rows.push_back({.slot = i, .position = 0, .token = 1});
    plan.samples.push_back({.row = i, .slot = i});
  }
  return plan;
}

// Draws token 100 * step + slot for every sample.
absl::StatusOr<StepResult> Draw(const StepPlan& plan) {
  StepResult result;
  result.number = plan.number;
  for (const SampleRequest& sample : plan.samples) {
    result.tokens.push_back({.id = static_cast<TokenId>(100 * plan.number) + sample.slot});
  }
  return result;
}

// A group of threads: the leader under test, and followers that each do `step`.
class Group {
 public:
  Group(int followers, const RankStep& leader_step, const RankStep& follower_step,
        const StepCost& cost = kCalm)
      : Group(followers, std::make_unique<WholeSteps>(leader_step), follower_step, cost) {}
  Group(int followers, std::unique_ptr<RankSteps> leader_steps, const RankStep& follower_step,
        const StepCost& cost = kCalm)
      : channel_(followers, 4),
        cells_(static_cast<size_t>(followers) + 1),
        reasons_(cells_.size()),
        leader_steps_(std::move(leader_steps)) {
    for (int i = 0; i < followers; ++i) {
      threads_.emplace_back([this, i, follower_step] {
        WholeSteps steps(follower_step);
        reasons_[i + 1] = Follow(channel_.follower(i), steps, cells_[i + 1]);
      });
    }
    GroupShape shape = SmallShape();
    shape.tp = followers + 1;
    runner_ =
        std::make_unique<GroupRunner>(shape, *leader_steps_, channel_.leader(), cells_[0], cost);
  }
  ~Group() { End(); }

  void End() {
    runner_.reset();
    for (std::thread& each : threads_) each.join();
    threads_.clear();
  }

  GroupRunner& runner() { return *runner_; }
  RankCell& cell(size_t rank) { return cells_[rank]; }
  const absl::Status& reason(size_t rank) const { return reasons_[rank]; }

 private:
  ThreadChannel channel_;
  std::vector<RankCell> cells_;
  std::vector<absl::Status> reasons_;
  std::unique_ptr<RankSteps> leader_steps_;
  std::vector<std::thread> threads_;
  std::unique_ptr<GroupRunner> runner_;
};

TEST(GroupRunnerTest, AResultComesWhenAllRanksAgree) {
  Group group(2, Draw, Draw);

  ASSERT_TRUE(group.runner().Submit(Plan(1)).ok());
  auto result = group.runner().Await();

  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->number, 1u);
  ASSERT_EQ(result->tokens.size(), 2u);
  EXPECT_EQ(result->tokens[1].id, 101);
}

TEST(GroupRunnerTest, AGroupOfOneNeedsNoFollowers) {
  Group group(0, Draw, Draw);

  ASSERT_TRUE(group.runner().Submit(Plan(1)).ok());

  EXPECT_TRUE(group.runner().Await().ok());
}

TEST(GroupRunnerTest, TwoPlansInFlightComeBackInOrder) {
  Group group(1, Draw, Draw);
  ASSERT_TRUE(group.runner().Submit(Plan(1)).ok());

  for (uint64_t number = 1; number <= 200; ++number) {
    ASSERT_TRUE(group.runner().Submit(Plan(number + 1)).ok());
    auto result = group.runner().Await();
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->number, number);
  }
}

TEST(GroupRunnerTest, TheNextStepIsSentWhileTheRanksRunThisOne) {
  absl::Notification sent;
  const RankStep step = [&](const StepPlan& plan) {
    if (plan.number == 1) sent.WaitForNotification();
    return Draw(plan);
  };
  Group group(1, step, step);

  ASSERT_TRUE(group.runner().Submit(Plan(1)).ok());
  ASSERT_TRUE(group.runner().Submit(Plan(2)).ok());
  sent.Notify();

  EXPECT_TRUE(group.runner().Await().ok());
  EXPECT_TRUE(group.runner().Await().ok());
}

// At the first token it tells the ranks that it is there, and waits until they run the next step.
class MeetingPolicy : public OutputPolicy {
 public:
  MeetingPolicy(absl::Notification& here, absl::Notification& there) : here_(here), there_(there) {}
  Verdict OnToken(const TokenEvent&) override {
    if (!here_.HasBeenNotified()) {
      here_.Notify();
      there_.WaitForNotification();
    }
    return {};
  }

 private:
  absl::Notification &here_, &there_;
};

TEST(GroupRunnerTest, TheEngineTakesAStepsTokensWhileTheRanksRunTheNext) {
  absl::Notification engine, rank;
  const RankStep step = [&](const StepPlan& plan) {
    if (plan.number == 2) {
      rank.Notify();
      engine.WaitForNotification();
    }
    return Draw(plan);
  };
  Group group(1, step, Draw);
  RealClock clock;
  const auto sink = std::make_shared<RecordingSink>();
  Engine leader({.plans_in_flight = 2}, group.runner(), clock);
  auto family = leader.Open({}, sink);
  ASSERT_TRUE(family.ok()) << family.status();
  std::vector<AgentSpec> gang(1);
  gang[0].prompt = {1, 2, 3};
  gang[0].grant = 4;
  gang[0].policy = std::make_unique<MeetingPolicy>(engine, rank);

  (*family)->Add(std::move(gang));
  (*family)->Finish();

  EXPECT_EQ(sink->AwaitFamilyEnd().sampled, 4);
  EXPECT_TRUE(leader.health().ok()) << leader.health();
}

TEST(GroupRunnerTest, AThirdPlanInFlightIsRefused) {
  Group group(1, Draw, Draw);
  ASSERT_TRUE(group.runner().Submit(Plan(1)).ok());
  ASSERT_TRUE(group.runner().Submit(Plan(2)).ok());

  EXPECT_EQ(group.runner().Submit(Plan(3)).code(), absl::StatusCode::kFailedPrecondition);
}

TEST(GroupRunnerTest, NumbersCountUpByOne) {
  Group group(1, Draw, Draw);

  EXPECT_EQ(group.runner().Submit(Plan(2)).code(), absl::StatusCode::kFailedPrecondition);
}

TEST(GroupRunnerTest, AwaitWithoutAPlanIsRefused) {
  Group group(1, Draw, Draw);

  EXPECT_EQ(group.runner().Await().status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(GroupRunnerTest, NothingLeavesWhenARankDrewAnotherToken) {
  Group group(2, Draw, [](const StepPlan& plan) {
    auto result = Draw(plan);
    if (plan.number == 2) result->tokens[1].id += 1;
    return result;
  });
  ASSERT_TRUE(group.runner().Submit(Plan(1)).ok());
  ASSERT_TRUE(group.runner().Await().ok());

  ASSERT_TRUE(group.runner().Submit(Plan(2)).ok());

  EXPECT_EQ(group.runner().Await().status().code(), absl::StatusCode::kDataLoss);
}

TEST(GroupRunnerTest, ALostGroupStaysLost) {
  Group group(
      1, [](const StepPlan&) { return Internal("the device is gone"); }, Draw);
  ASSERT_TRUE(group.runner().Submit(Plan(1)).ok());
  ASSERT_EQ(group.runner().Await().status().code(), absl::StatusCode::kInternal);

  EXPECT_EQ(group.runner().Submit(Plan(2)).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(group.runner().Await().status().code(), absl::StatusCode::kInternal);
}

TEST(GroupRunnerTest, ALateOwnRankIsAnError) {
  absl::Notification release;
  Group group(
      1,
      [&](const StepPlan& plan) {
        release.WaitForNotification();
        return Draw(plan);
      },
      Draw, kHurried);
  ASSERT_TRUE(group.runner().Submit(Plan(1)).ok());

  EXPECT_EQ(group.runner().Await().status().code(), absl::StatusCode::kDeadlineExceeded);
  release.Notify();
}

TEST(GroupRunnerTest, ALateFollowerIsAnError) {
  absl::Notification release;
  Group group(
      1, Draw,
      [&](const StepPlan& plan) {
        release.WaitForNotification();
        return Draw(plan);
      },
      kHurried);
  ASSERT_TRUE(group.runner().Submit(Plan(1)).ok());
  while (group.cell(0).step_done != 1) std::this_thread::yield();  // The leader's own rank is not.

  const absl::Status late = group.runner().Await().status();

  EXPECT_EQ(late.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(MessageOf(late), ::testing::HasSubstr("rank 1"));
  release.Notify();
}

TEST(GroupRunnerTest, ADeadFollowerIsALateOne) {
  Group group(
      1, Draw, [](const StepPlan&) { return Internal("no memory"); }, kHurried);
  ASSERT_TRUE(group.runner().Submit(Plan(1)).ok());

  EXPECT_EQ(group.runner().Await().status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(GroupRunnerTest, CellsShowReadinessAndTheLastStep) {
  Group group(1, Draw, Draw);
  ASSERT_TRUE(group.runner().Submit(Plan(1)).ok());
  ASSERT_TRUE(group.runner().Await().ok());

  for (size_t rank : {0u, 1u}) {
    EXPECT_EQ(group.cell(rank).ready, 1u);
    EXPECT_EQ(group.cell(rank).step_begun, 1u);
    EXPECT_EQ(group.cell(rank).step_done, 1u);
    EXPECT_GT(group.cell(rank).step_deadline_ns - group.cell(rank).step_begun_ns, 0);
  }
  EXPECT_EQ(group.cell(0).step_hash, group.cell(1).step_hash);
}

// What a rank's device is told, and when it is done with a step: as the test says.
struct Device {
  absl::Mutex mutex;
  std::vector<std::string> calls;
  std::set<uint64_t> alone, fails_to_begin, fails;  // Steps that may not be begun early, or fail.
  uint64_t done = 0;                                // Up to this step.
  uint64_t begun = 0, finished = 0;
  uint64_t most_begun = 0;

  void LetEnd(uint64_t step) {
    absl::MutexLock lock(&mutex);
    done = step;
  }
  void AwaitCalls(const std::vector<std::string>& wanted) {
    auto there = [&] { return calls == wanted; };
    absl::MutexLock lock(&mutex);
    ASSERT_TRUE(mutex.AwaitWithTimeout(absl::Condition(&there), absl::Seconds(60)))
        << ::testing::PrintToString(calls);
  }
};

class DeviceSteps : public RankSteps {
 public:
  explicit DeviceSteps(Device& device) : device_(device) {}

  bool MayBegin(const StepPlan& plan) const override {
    absl::MutexLock lock(&device_.mutex);
    return device_.begun == device_.finished || !device_.alone.contains(plan.number);
  }
  absl::Status Begin(const StepPlan& plan) override {
    absl::MutexLock lock(&device_.mutex);
    device_.calls.push_back(fmt::format("begin {}", plan.number));
    if (device_.fails_to_begin.contains(plan.number)) return InvalidArgument("a bad plan");
    ++device_.begun;
    device_.most_begun = std::max(device_.most_begun, device_.begun - device_.finished);
    plans_.push_back(plan);
    return absl::OkStatus();
  }
  bool IsReady() override {
    absl::MutexLock lock(&device_.mutex);
    return device_.done > device_.finished;
  }
  absl::StatusOr<StepResult> Finish() override {
    auto ready = [this] { return device_.done > device_.finished; };
    absl::MutexLock lock(&device_.mutex);
    device_.mutex.Await(absl::Condition(&ready));
    const StepPlan plan = std::move(plans_.front());
    plans_.pop_front();
    ++device_.finished;
    device_.calls.push_back(fmt::format("finish {}", plan.number));
    if (device_.fails.contains(plan.number)) return Internal("the device is gone");
    return Draw(plan);
  }

 private:
  Device& device_;
  std::deque<StepPlan> plans_;
};

TEST(GroupRunnerTest, AStepIsBegunBeforeTheOneBeforeItEnds) {
  Device device;
  Group group(0, std::make_unique<DeviceSteps>(device), Draw);

  ASSERT_TRUE(group.runner().Submit(Plan(1)).ok());
  ASSERT_TRUE(group.runner().Submit(Plan(2)).ok());
  device.AwaitCalls({"begin 1", "begin 2"});
  // The second one's deadline doesn't run yet.
  EXPECT_EQ(group.cell(0).step_begun, 1u);
  device.LetEnd(1);
  ASSERT_TRUE(group.runner().Await().ok());
  EXPECT_EQ(group.cell(0).step_done, 1u);
  EXPECT_EQ(group.cell(0).step_begun, 2u);
  ASSERT_TRUE(group.runner().Submit(Plan(3)).ok());

  device.AwaitCalls({"begin 1", "begin 2", "finish 1", "begin 3"});
  device.LetEnd(3);
  EXPECT_EQ(group.runner().Await()->number, 2u);
  EXPECT_EQ(group.runner().Await()->number, 3u);
  EXPECT_EQ(device.most_begun, 2u);
}

TEST(GroupRunnerTest, AStepEndsWithoutANextOne) {
  Device device;
  Group group(0, std::make_unique<DeviceSteps>(device), Draw);
  ASSERT_TRUE(group.runner().Submit(Plan(1)).ok());
  device.AwaitCalls({"begin 1"});

  device.LetEnd(1);

  EXPECT_TRUE(group.runner().Await().ok());
  EXPECT_EQ(group.cell(0).step_begun, group.cell(0).step_done);
}

TEST(GroupRunnerTest, APlanThatMayNotBeBegunEarlyWaits) {
  Device device;
  device.alone = {2};
  device.done = 2;
  Group group(0, std::make_unique<DeviceSteps>(device), Draw);

  ASSERT_TRUE(group.runner().Submit(Plan(1)).ok());
  ASSERT_TRUE(group.runner().Submit(Plan(2)).ok());

  EXPECT_TRUE(group.runner().Await().ok());
  EXPECT_TRUE(group.runner().Await().ok());
  device.AwaitCalls({"begin 1", "finish 1", "begin 2", "finish 2"});
}

TEST(GroupRunnerTest, AStepIsGivenOutThoughTheNextCannotBegin) {
  Device device;
  device.fails_to_begin = {2};
  Group group(0, std::make_unique<DeviceSteps>(device), Draw);
  ASSERT_TRUE(group.runner().Submit(Plan(1)).ok());
  ASSERT_TRUE(group.runner().Submit(Plan(2)).ok());
  device.AwaitCalls({"begin 1", "begin 2"});

  device.LetEnd(2);

  EXPECT_TRUE(group.runner().Await().ok());
  EXPECT_EQ(group.runner().Await().status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(group.cell(0).step_done, 1u);
  EXPECT_EQ(group.cell(0).step_begun, 2u);
}

TEST(GroupRunnerTest, NothingIsFinishedBehindAStepThatFailed) {
  Device device;
  device.fails = {1};
  {
    Group group(0, std::make_unique<DeviceSteps>(device), Draw);
    ASSERT_TRUE(group.runner().Submit(Plan(1)).ok());
    ASSERT_TRUE(group.runner().Submit(Plan(2)).ok());
    device.AwaitCalls({"begin 1", "begin 2"});

    device.LetEnd(2);

    EXPECT_EQ(group.runner().Await().status().code(), absl::StatusCode::kInternal);
    EXPECT_EQ(group.runner().Await().status().code(), absl::StatusCode::kInternal);
    EXPECT_EQ(group.cell(0).step_done, 0u);
  }
  device.AwaitCalls({"begin 1", "begin 2", "finish 1"});
}

TEST(GroupRunnerTest, TheEndWaitsForWhatWasBegun) {
  Device device;
  {
    Group group(0, std::make_unique<DeviceSteps>(device), Draw);
    ASSERT_TRUE(group.runner().Submit(Plan(1)).ok());
    ASSERT_TRUE(group.runner().Submit(Plan(2)).ok());
    device.AwaitCalls({"begin 1", "begin 2"});
    device.LetEnd(2);
  }
  device.AwaitCalls({"begin 1", "begin 2", "finish 1", "finish 2"});
}

TEST(FollowTest, ReturnsCancelledWhenTheLeaderEnds) {
  Group group(1, Draw, Draw);

  group.End();

  EXPECT_EQ(group.reason(1).code(), absl::StatusCode::kCancelled);
}

TEST(FollowTest, ReturnsTheReasonOfAFailedStep) {
  ThreadChannel channel(1, 4);
  RankCell cell;
  const std::string message = EncodePlan({.plan = Plan(1), .patience = absl::Seconds(1)});
  ASSERT_TRUE(channel.leader().Send(1, message, absl::Seconds(60)).ok());

  WholeSteps steps([](const StepPlan&) { return ResourceExhausted("full"); });
  const absl::Status reason = Follow(channel.follower(0), steps, cell);

  EXPECT_EQ(reason.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(cell.step_begun, 1u);
  EXPECT_EQ(cell.step_done, 0u);
}

TEST(FollowTest, RefusesAPlanOutOfOrder) {
  ThreadChannel channel(1, 4);
  RankCell cell;
  const std::string message = EncodePlan({.plan = Plan(2), .patience = absl::Seconds(1)});
  ASSERT_TRUE(channel.leader().Send(2, message, absl::Seconds(60)).ok());

  WholeSteps steps(Draw);
  EXPECT_EQ(Follow(channel.follower(0), steps, cell).code(), absl::StatusCode::kDataLoss);
}

TEST(FollowTest, RefusesGarbage) {
  ThreadChannel channel(1, 4);
  RankCell cell;
  ASSERT_TRUE(channel.leader().Send(1, "garbage", absl::Seconds(60)).ok());

  WholeSteps steps(Draw);
  EXPECT_EQ(Follow(channel.follower(0), steps, cell).code(), absl::StatusCode::kInvalidArgument);
}

TEST(StepCostTest, GrowsWithRowsContextAndCopies) {
  const StepCost cost;
  StepPlan small = Plan(1, 1), wide = Plan(1, 64), deep = small, copying = small;
  deep.rows[0].position = 100'000;
  copying.copies = {{.tokens = 16}};

  EXPECT_GE(cost.PatienceFor(small), absl::Seconds(5));
  EXPECT_GT(cost.PatienceFor(wide), cost.PatienceFor(small));
  EXPECT_GT(cost.PatienceFor(deep), cost.PatienceFor(small));
  EXPECT_GT(cost.PatienceFor(copying), cost.PatienceFor(small));
}

}  // namespace
}  // namespace conclave::worker
