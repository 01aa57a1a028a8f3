#include "worker/launch/joiner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <ctime>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "worker/launch/supervisor.h"

namespace conclave::worker {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr absl::Duration kTick = absl::Milliseconds(10);
constexpr int kMaxTicks = 6'000;  // A minute: what a test waits at most.

bool Alive(int pid) { return kill(pid, 0) == 0; }

// The way between host 0 and host 1, in memory.
class Wire : public OtherHosts, public HostLink {
 public:
  std::vector<Member> Look() override { return {member_}; }
  void Order(const HostOrders& orders) override {
    if (!cut && member_.here) orders_ = orders;
  }
  void Drop(int, const std::string& why) override {
    if (cut) member_ = {.here = false, .report = {}, .left = why};
    Part(why);
  }

  void Join() override {
    end_.reset();
    orders_.reset();
    if (cut) return;
    if (refusal.ok()) {
      member_ = {.here = true, .report = {}, .left = {}};
    } else {
      end_ = refusal;
    }
  }
  void Leave() override {
    if (!cut) Part("its connection ended");
  }
  std::optional<absl::Status> End() override { return end_; }
  std::optional<HostOrders> Orders() override { return orders_; }
  void Report(const HostReport& report) override {
    if (!cut && member_.here) member_.report = report;
  }

  // As when a process at one end is gone.
  void Part(const std::string& why) {
    if (!member_.here) return;
    member_ = {.here = false, .report = {}, .left = why};
    end_ = absl::UnavailableError("the connection broke");
  }

  bool cut = false;  // Nothing arrives, and nobody is told.
  absl::Status refusal;

 private:
  Member member_;
  std::optional<absl::Status> end_;
  std::optional<HostOrders> orders_;
};

// The launchers of two hosts with two ranks each, which are real processes; turned one after the
// other until something is true, for at most a minute.
class TwoHostsTest : public ::testing::Test {
 protected:
  template <typename Options>
  Options OptionsOf(int host) {
    Options options;
    options.tp = 4;
    options.place = {.hosts = 2, .host = host};
    options.program = CONCLAVE_BINARY_DIR "/launch_rank_child";
    options.rank_arguments = arguments_;
    options.tick = kTick;
    options.first_backoff = kTick;
    options.log = [this, host](std::string_view line) {
      log_.push_back("host " + std::to_string(host) + ": " + std::string(line));
    };
    options.on_serving = [this, host](bool serves) { serves_[host] = serves; };
    return options;
  }
  void StartHost0() {
    auto options = OptionsOf<LauncherOptions>(0);
    // The machine may be slow: only tests of silence shorten this.
    options.judge.beat = silence_;
    options.on_loss = [this](const std::string& loss) { losses_.push_back(loss); };
    supervisor_.emplace(std::move(options), &wire_);
    ASSERT_TRUE(supervisor_->Start().ok());
  }
  void StartHost1() {
    auto options = OptionsOf<JoinerOptions>(1);
    options.silence = silence_;
    options.join_patience = 30 * kTick;
    joiner_.emplace(std::move(options), wire_);
  }

  bool TurnUntil(const std::function<bool()>& condition) {
    const timespec tick = absl::ToTimespec(kTick);
    for (int i = 0; i < kMaxTicks; ++i) {
      if (condition()) return true;
      clock_nanosleep(CLOCK_MONOTONIC, 0, &tick, nullptr);
      if (supervisor_.has_value() && !end_0_.has_value()) end_0_ = supervisor_->Turn(true);
      if (joiner_.has_value() && !end_1_.has_value()) end_1_ = joiner_->Turn(true);
    }
    return condition();
  }
  bool TurnUntilReady(uint64_t epoch) {
    return TurnUntil([&] { return supervisor_->epoch() == epoch && supervisor_->ready(); });
  }
  std::vector<int> AllPids() {
    std::vector<int> pids = supervisor_->pids();
    for (const int pid : joiner_->pids()) pids.push_back(pid);
    return pids;
  }
  void StartBoth() {
    StartHost0();
    StartHost1();
    ASSERT_TRUE(TurnUntilReady(1));
  }

  absl::Duration silence_ = absl::Seconds(30);
  std::vector<std::string> arguments_;
  std::vector<std::string> log_, losses_;
  bool serves_[2] = {};
  Wire wire_;
  std::optional<Supervisor> supervisor_;
  std::optional<Joiner> joiner_;
  std::optional<absl::Status> end_0_, end_1_;
};

TEST_F(TwoHostsTest, NoEpochBeginsBeforeAllHostsAreHere) {
  StartHost0();
  ASSERT_TRUE(TurnUntil([&] { return log_.size() >= 2; }));
  EXPECT_THAT(log_, Contains("host 0: epoch 1 waits for host 1"));
  EXPECT_THAT(supervisor_->pids(), IsEmpty());

  StartHost1();

  ASSERT_TRUE(TurnUntilReady(1));
  EXPECT_THAT(supervisor_->pids(), SizeIs(2));
  EXPECT_THAT(joiner_->pids(), SizeIs(2));
}

TEST_F(TwoHostsTest, AKilledRankEndsTheEpochOnBothHosts) {
  StartBoth();
  for (uint64_t epoch = 1; epoch <= 2; ++epoch) {
    const std::vector<int> old = AllPids();
    const size_t victim = epoch == 1 ? 3 : 0;  // On host 1; on host 0.

    kill(old[victim], SIGKILL);

    ASSERT_TRUE(TurnUntilReady(epoch + 1));
    for (const int pid : old) EXPECT_FALSE(Alive(pid));
    EXPECT_THAT(losses_.back(), AllOf(HasSubstr("rank " + std::to_string(victim)),
                                      HasSubstr("was killed by signal 9 (SIGKILL)")));
  }
}

TEST_F(TwoHostsTest, AStepThatHangsOnTheOtherHostIsNoticed) {
  arguments_ = {"--mode=hang", "--rank-at-fault=2"};
  StartHost0();
  StartHost1();

  ASSERT_TRUE(TurnUntilReady(2));

  EXPECT_THAT(losses_[0], HasSubstr("rank 2"));
  EXPECT_THAT(losses_[0], HasSubstr("is late with step 1"));
}

TEST_F(TwoHostsTest, ARankThatStopsBeatingOnTheOtherHostIsNoticed) {
  silence_ = absl::Seconds(3);
  arguments_ = {"--mode=mute", "--rank-at-fault=3"};
  StartHost0();
  StartHost1();

  ASSERT_TRUE(TurnUntilReady(2));

  EXPECT_THAT(losses_[0], AllOf(HasSubstr("rank 3"), HasSubstr("has not moved its beat")));
}

TEST_F(TwoHostsTest, AWrongConfigOnTheOtherHostIsNotTriedAgain) {
  arguments_ = {"--mode=refuse", "--rank-at-fault=3"};
  StartHost0();
  StartHost1();

  ASSERT_TRUE(TurnUntil([&] { return end_0_.has_value(); }));

  EXPECT_EQ(end_0_->code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(end_0_->message()), HasSubstr("the config is wrong"));
}

TEST_F(TwoHostsTest, ACutEndsTheRanksOnBothSidesAndTheGroupFormsAnewAfterIt) {
  silence_ = absl::Seconds(3);
  StartBoth();
  const std::vector<int> old = AllPids();

  wire_.cut = true;

  ASSERT_TRUE(TurnUntil([&] { return supervisor_->pids().empty() && joiner_->pids().empty(); }));
  for (const int pid : old) EXPECT_FALSE(Alive(pid));
  // A rank that had not beaten when the cut came is found a moment before its host.
  EXPECT_THAT(losses_.back(), AnyOf(HasSubstr("host 1 has left: it has been silent for"),
                                    HasSubstr("has not moved its beat")));
  EXPECT_THAT(log_, Contains(HasSubstr("host 1: host 0 is lost: it is silent")));
  EXPECT_THAT(log_, Not(Contains(HasSubstr("epoch 2 begins with"))));

  wire_.cut = false;

  EXPECT_TRUE(TurnUntilReady(2));
}

TEST_F(TwoHostsTest, AnotherLauncherTakesTheOtherHostsPlace) {
  StartBoth();
  const std::vector<int> old = AllPids();

  joiner_.reset();  // Its ranks go with it,
  wire_.Part("its connection ended");
  ASSERT_TRUE(TurnUntil([&] { return supervisor_->pids().empty(); }));
  for (const int pid : old) EXPECT_FALSE(Alive(pid));
  StartHost1();

  ASSERT_TRUE(TurnUntilReady(2));
  EXPECT_THAT(losses_.back(), HasSubstr("host 1 has left: its connection ended"));
}

TEST_F(TwoHostsTest, RanksOfALostHost0DieAndAnotherHost0FindsTheirHostAgain) {
  StartBoth();
  const std::vector<int> old = AllPids();

  supervisor_.reset();
  wire_.Part("host 0 is gone");
  ASSERT_TRUE(TurnUntil([&] { return joiner_->pids().empty(); }));
  for (const int pid : old) EXPECT_FALSE(Alive(pid));
  StartHost0();

  EXPECT_TRUE(TurnUntilReady(1));  // It counts from 1 again.
}

TEST_F(TwoHostsTest, ADrainOfHost0EndsBoth) {
  StartBoth();
  const std::vector<int> old = AllPids();
  joiner_->Drain();  // As Kubernetes does: all at once.
  supervisor_->Drain();

  ASSERT_TRUE(TurnUntil([&] { return end_0_.has_value() && end_1_.has_value(); }));

  EXPECT_TRUE(end_0_->ok()) << *end_0_;
  EXPECT_TRUE(end_1_->ok()) << *end_1_;
  for (const int pid : old) EXPECT_FALSE(Alive(pid));
}

TEST_F(TwoHostsTest, AHostThatLeavesDrainsTheGroupWhichWaitsForTheNext) {
  StartBoth();

  joiner_->Drain();

  ASSERT_TRUE(TurnUntil([&] { return end_1_.has_value(); }));
  EXPECT_TRUE(end_1_->ok()) << *end_1_;
  EXPECT_THAT(log_, Contains("host 0: epoch 1 is drained"));
  EXPECT_THAT(losses_, IsEmpty());
  EXPECT_FALSE(end_0_.has_value());
  end_1_.reset();
  wire_.Part("its connection ended");
  StartHost1();
  EXPECT_TRUE(TurnUntilReady(2));
  EXPECT_EQ(supervisor_->losses(), 0);
}

TEST_F(TwoHostsTest, AHostThatIsRefusedSaysWhyAndEnds) {
  StartHost0();
  wire_.refusal = absl::FailedPreconditionError("tensor_parallel is 2, and host 0's is 4");
  StartHost1();

  ASSERT_TRUE(TurnUntil([&] { return end_1_.has_value(); }));

  EXPECT_EQ(end_1_->code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(end_1_->message()), HasSubstr("tensor_parallel is 2"));
}

TEST_F(TwoHostsTest, AHostThatCannotStartItsRanksSaysWhy) {
  StartHost0();
  auto options = OptionsOf<JoinerOptions>(1);
  options.program = "no/such/program";
  joiner_.emplace(std::move(options), wire_);

  ASSERT_TRUE(TurnUntil([&] { return !losses_.empty(); }));

  EXPECT_THAT(losses_[0], HasSubstr("host 1 could not begin: cannot start no/such/program"));
}

TEST_F(TwoHostsTest, EveryRankLearnsTheAddressesOfAll) {
  arguments_ = {"--meet=yes"};
  StartHost0();
  StartHost1();

  ASSERT_TRUE(TurnUntilReady(1));  // Each of them waited for all addresses.
}

TEST_F(TwoHostsTest, EveryHostKnowsWhetherTheGroupServes) {
  arguments_ = {"--mode=serve", "--rank-at-fault=0"};
  StartHost0();
  StartHost1();

  ASSERT_TRUE(TurnUntil([&] { return serves_[0] && serves_[1]; }));
  kill(joiner_->pids()[0], SIGKILL);

  EXPECT_TRUE(TurnUntil([&] { return !serves_[0] && !serves_[1]; }));
}

}  // namespace
}  // namespace conclave::worker
