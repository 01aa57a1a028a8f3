#include "worker/launch/supervisor.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "worker/launch/flight_file.h"

namespace conclave::worker {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr absl::Duration kTick = absl::Milliseconds(10);
constexpr int kMaxTicks = 12'000;  // Two minutes: what a test waits at most.

bool Alive(int pid) { return kill(pid, 0) == 0; }

// Supervises real child processes; turns until something is true, for at most two minutes.
class SupervisorTest : public ::testing::Test {
 protected:
  void Start(std::vector<std::string> arguments,
             const std::function<void(LauncherOptions&)>& change = {}) {
    LauncherOptions options;
    options.program = CONCLAVE_BINARY_DIR "/launch_rank_child";
    options.rank_arguments = std::move(arguments);
    options.tick = kTick;
    // The machine may be slow: only tests of silence shorten this.
    options.judge.beat = absl::Seconds(30);
    options.first_backoff = kTick;
    options.log = [this](std::string_view line) { log_.emplace_back(line); };
    options.on_loss = [this](const std::string& loss) { losses_.push_back(loss); };
    if (change) change(options);
    supervisor_.emplace(std::move(options));
    ASSERT_TRUE(supervisor_->Start().ok());
  }

  bool TurnUntil(const std::function<bool()>& condition) {
    const timespec tick = absl::ToTimespec(kTick);
    for (int i = 0; i < kMaxTicks && !end_.has_value(); ++i) {
      if (condition()) return true;
      clock_nanosleep(CLOCK_MONOTONIC, 0, &tick, nullptr);
      end_ = supervisor_->Turn(true);
    }
    return condition();
  }
  // This epoch, or a later one: a loaded machine may silence a rank where a test shortens patience.
  bool TurnUntilReady(uint64_t epoch) {
    return TurnUntil([&] { return supervisor_->epoch() >= epoch && supervisor_->ready(); });
  }
  bool TurnUntilEnd() {
    return TurnUntil([&] { return end_.has_value(); });
  }

  std::vector<std::string> log_, losses_;
  std::optional<Supervisor> supervisor_;
  std::optional<absl::Status> end_;
};

TEST_F(SupervisorTest, AGroupBecomesReady) {
  Start({});

  EXPECT_TRUE(TurnUntilReady(1));
  EXPECT_TRUE(TurnUntil([&] { return log_.size() >= 2; }));
  EXPECT_THAT(log_, Contains("epoch 1 is ready"));
}

TEST_F(SupervisorTest, KillingAnyRankEndsAllAndBeginsANewEpoch) {
  Start({});
  for (uint64_t epoch = 1; epoch <= 2; ++epoch) {
    ASSERT_TRUE(TurnUntilReady(epoch));
    const std::vector<int> old = supervisor_->pids();
    const size_t victim = epoch % 2;

    kill(old[victim], SIGKILL);

    ASSERT_TRUE(TurnUntilReady(epoch + 1));
    for (int pid : old) EXPECT_FALSE(Alive(pid));
    EXPECT_THAT(log_, Contains(AllOf(HasSubstr("was killed by signal 9 (SIGKILL); epoch"),
                                     HasSubstr("rank " + std::to_string(victim)),
                                     HasSubstr("rank 1 had ended step 0"))));
  }
}

TEST_F(SupervisorTest, ARankThatExitsEndsTheGroup) {
  Start({"--mode=exit", "--rank-at-fault=1"});

  ASSERT_TRUE(TurnUntil([&] { return !losses_.empty(); }));

  EXPECT_THAT(losses_[0], HasSubstr("exited with code 7"));
}

TEST_F(SupervisorTest, AStoppedRankIsNoticed) {
  Start({}, [](LauncherOptions& options) { options.judge.beat = absl::Seconds(2); });
  ASSERT_TRUE(TurnUntilReady(1));

  kill(supervisor_->pids()[1], SIGSTOP);

  ASSERT_TRUE(TurnUntilReady(2));
  EXPECT_THAT(losses_, Contains(HasSubstr("rank 1")));
  EXPECT_THAT(losses_, Contains(HasSubstr("has been stopped for")));
}

TEST_F(SupervisorTest, ARankThatIsStoppedBeforeItsFirstBeatIsNoticed) {
  Start({}, [](LauncherOptions& options) {
    options.judge.beat = absl::Seconds(2);
    options.judge.first_beat = absl::Hours(1);
  });

  kill(supervisor_->pids()[1], SIGSTOP);

  ASSERT_TRUE(TurnUntilReady(2));
  EXPECT_THAT(losses_, Contains(HasSubstr("rank 1")));
}

TEST_F(SupervisorTest, ARankThatStopsBeatingIsNoticed) {
  Start({"--mode=mute", "--rank-at-fault=0"},
        [](LauncherOptions& options) { options.judge.beat = absl::Seconds(2); });

  ASSERT_TRUE(TurnUntilReady(2));

  EXPECT_THAT(losses_[0], HasSubstr("has not moved its beat"));
}

TEST_F(SupervisorTest, AStepThatHangsIsNoticed) {
  Start({"--mode=hang", "--rank-at-fault=1"});

  ASSERT_TRUE(TurnUntilReady(2));

  EXPECT_THAT(losses_[0], HasSubstr("is late with step 1"));
}

TEST_F(SupervisorTest, ALoopThatStallsIsNoticed) {
  Start({"--mode=stall", "--rank-at-fault=0"},
        [](LauncherOptions& options) { options.judge.loop = absl::Milliseconds(500); });

  ASSERT_TRUE(TurnUntil([&] { return !losses_.empty(); }));

  EXPECT_THAT(losses_[0], HasSubstr("engine's loop"));
}

TEST_F(SupervisorTest, TooManyLossesEndTheLauncher) {
  Start({"--mode=exit", "--rank-at-fault=0", "--until-epoch=9"},
        [](LauncherOptions& options) { options.max_restarts = 2; });

  ASSERT_TRUE(TurnUntilEnd());

  EXPECT_EQ(end_->code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(losses_.size(), 3u);
  EXPECT_THAT(supervisor_->pids(), IsEmpty());
}

TEST_F(SupervisorTest, AnErrorBeforeTheFirstReadinessIsNotTriedAgain) {
  Start({"--mode=refuse", "--rank-at-fault=1"});

  ASSERT_TRUE(TurnUntilEnd());

  EXPECT_EQ(end_->code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(end_->message()), HasSubstr("the config is wrong"));
}

TEST_F(SupervisorTest, ARankInheritsTheGroupsMemoryAndNothingElse) {
  // As a launcher is started by somebody who left a file open for its children.
  const int leaked = open("/dev/null", O_RDONLY);
  ASSERT_GT(leaked, 2);
  Start({"--mode=count", "--rank-at-fault=1"});
  close(leaked);

  ASSERT_TRUE(TurnUntilEnd());

  EXPECT_THAT(std::string(end_->message()), HasSubstr("descriptors 0 1 2 3 before"));
}

TEST_F(SupervisorTest, ARankThatALoadingGroupLostIsReplaced) {
  Start({});
  const std::vector<int> old = supervisor_->pids();

  kill(old[0], SIGKILL);  // Before it is ready, most often.

  ASSERT_TRUE(TurnUntilReady(2));
  for (int pid : old) EXPECT_FALSE(Alive(pid));
}

TEST_F(SupervisorTest, ADrainThatComesBeforeTheRanksListenIsKeptForThem) {
  Start({});

  supervisor_->Drain();

  ASSERT_TRUE(TurnUntilEnd());
  EXPECT_TRUE(end_->ok()) << *end_;
}

TEST_F(SupervisorTest, ADrainEndsWellWhenTheLeaderExits) {
  Start({});
  ASSERT_TRUE(TurnUntilReady(1));
  const std::vector<int> old = supervisor_->pids();

  supervisor_->Drain();

  ASSERT_TRUE(TurnUntilEnd());
  EXPECT_TRUE(end_->ok()) << *end_;
  for (int pid : old) EXPECT_FALSE(Alive(pid));
}

TEST_F(SupervisorTest, ADrainThatTakesTooLongIsCutShort) {
  Start({}, [](LauncherOptions& options) { options.drain_timeout = 3 * kTick; });
  ASSERT_TRUE(TurnUntilReady(1));
  const std::vector<int> old = supervisor_->pids();
  kill(old[0], SIGSTOP);

  supervisor_->Drain();

  ASSERT_TRUE(TurnUntilEnd());
  EXPECT_EQ(end_->code(), absl::StatusCode::kDeadlineExceeded);
  for (int pid : old) EXPECT_FALSE(Alive(pid));
}

TEST_F(SupervisorTest, ASecondDrainEndsAtOnce) {
  Start({});
  ASSERT_TRUE(TurnUntilReady(1));
  kill(supervisor_->pids()[0], SIGSTOP);

  supervisor_->Drain();
  supervisor_->Drain();

  end_ = supervisor_->Turn(false);
  ASSERT_TRUE(end_.has_value());
  EXPECT_EQ(end_->code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(SupervisorTest, ARankThatDiesWhileDrainingIsALoss) {
  Start({});
  ASSERT_TRUE(TurnUntilReady(1));
  kill(supervisor_->pids()[0], SIGSTOP);
  supervisor_->Drain();

  kill(supervisor_->pids()[1], SIGKILL);

  ASSERT_TRUE(TurnUntilEnd());
  EXPECT_EQ(end_->code(), absl::StatusCode::kAborted);
}

TEST_F(SupervisorTest, TheLastPlansOfALostGroupAreKept) {
  const std::string directory = ::testing::TempDir() + "supervisor-flights";
  std::filesystem::remove_all(directory);
  Start({}, [&](LauncherOptions& options) { options.flight_directory = directory; });
  ASSERT_TRUE(TurnUntilReady(1));

  kill(supervisor_->pids()[1], SIGKILL);
  ASSERT_TRUE(TurnUntilReady(2));

  const std::filesystem::directory_iterator files(directory);
  ASSERT_NE(begin(files), end(files));
  auto flight = ReadFlight(files->path().string());
  ASSERT_TRUE(flight.ok()) << flight.status();
  EXPECT_THAT(flight->account, HasSubstr("was killed by signal 9"));
  ASSERT_EQ(flight->plans.size(), 1u);
  EXPECT_EQ(flight->plans[0].bytes, "plan of epoch 1");
  std::filesystem::remove_all(directory);
}

TEST_F(SupervisorTest, AProgramThatIsMissingIsAnError) {
  LauncherOptions options;
  options.program = "no/such/program";
  Supervisor supervisor(options);

  EXPECT_EQ(supervisor.Start().code(), absl::StatusCode::kUnavailable);
}

TEST_F(SupervisorTest, NoRankOutlivesItsSupervisor) {
  Start({});
  ASSERT_TRUE(TurnUntilReady(1));
  const std::vector<int> old = supervisor_->pids();

  supervisor_.reset();

  for (int pid : old) EXPECT_FALSE(Alive(pid));
}

}  // namespace
}  // namespace conclave::worker
