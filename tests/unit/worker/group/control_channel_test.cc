#include "worker/group/control_channel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "worker/group/shm_channel.h"
#include "worker/group/thread_channel.h"

namespace conclave::worker {
namespace {

constexpr absl::Duration kLong = absl::Seconds(60);
constexpr absl::Duration kShort = absl::Milliseconds(20);

// Both kinds of channel with two followers, and room for very few messages of 1,000 bytes.
class Ends {
 public:
  virtual ~Ends() = default;
  virtual LeaderChannel& leader() = 0;
  virtual FollowerChannel& follower(int index) = 0;
};

class ThreadEnds : public Ends {
 public:
  LeaderChannel& leader() override { return channel_.leader(); }
  FollowerChannel& follower(int index) override { return channel_.follower(index); }

 private:
  ThreadChannel channel_{2, 3};
};

class ShmEnds : public Ends {
 public:
  LeaderChannel& leader() override { return leader_; }
  FollowerChannel& follower(int index) override { return index == 0 ? first_ : second_; }

 private:
  GroupMemory memory_ = *GroupMemory::Create({.tp = 3, .ring_bytes = 4096});
  ShmLeaderChannel leader_{memory_};
  ShmFollowerChannel first_{memory_, 1}, second_{memory_, 2};
};

class ControlChannelTest : public ::testing::TestWithParam<bool> {
 protected:
  ControlChannelTest() {
    if (GetParam()) {
      ends_ = std::make_unique<ShmEnds>();
    } else {
      ends_ = std::make_unique<ThreadEnds>();
    }
  }
  LeaderChannel& leader() { return ends_->leader(); }
  FollowerChannel& follower(int index) { return ends_->follower(index); }

  std::unique_ptr<Ends> ends_;
};

INSTANTIATE_TEST_SUITE_P(Kinds, ControlChannelTest, ::testing::Bool(),
                         [](const auto& kind) { return kind.param ? "Shm" : "Thread"; });

TEST_P(ControlChannelTest, EveryFollowerReceivesTheSameMessagesInOrder) {
  constexpr int kMessages = 500;
  std::vector<std::vector<std::string>> received(2);
  std::vector<std::thread> followers;
  for (int i = 0; i < 2; ++i) {
    followers.emplace_back([this, i, &received] {
      for (int n = 0; n < kMessages; ++n) received[i].push_back(*follower(i).Receive());
    });
  }
  std::vector<std::string> sent;
  for (uint64_t n = 1; n <= kMessages; ++n) {
    sent.push_back(std::to_string(n) + std::string(n % 700, 'x'));
    ASSERT_TRUE(leader().Send(n, sent.back(), kLong).ok());
  }
  for (std::thread& each : followers) each.join();

  EXPECT_EQ(received[0], sent);
  EXPECT_EQ(received[1], sent);
}

TEST_P(ControlChannelTest, ASlowFollowerHoldsTheLeaderBack) {
  uint64_t sent = 0;
  absl::Status status;
  while (status.ok() && sent < 100) {
    status = leader().Send(sent + 1, std::string(900, 'x'), kShort);
    if (!status.ok()) break;
    ++sent;
    ASSERT_TRUE(follower(0).Receive().ok());
  }

  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_LE(sent, 4u);
}

TEST_P(ControlChannelTest, RoomComesWhenTheSlowFollowerReads) {
  for (uint64_t n = 1; n <= 3; ++n) {
    ASSERT_TRUE(leader().Send(n, std::string(900, 'x'), kShort).ok());
  }
  std::thread reader([this] {
    for (int n = 0; n < 8; ++n) {
      EXPECT_TRUE(follower(1).Receive().ok());
      EXPECT_TRUE(follower(0).Receive().ok());
    }
  });

  for (uint64_t n = 4; n <= 8; ++n) {
    EXPECT_TRUE(leader().Send(n, std::string(900, 'x'), kLong).ok());
  }
  reader.join();
}

TEST_P(ControlChannelTest, MarksComeBackForTheirStep) {
  follower(0).Report({.number = 1, .hash = 11});
  follower(1).Report({.number = 1, .hash = 12});
  follower(1).Report({.number = 2, .hash = 22});
  follower(0).Report({.number = 2, .hash = 21});

  EXPECT_EQ(*leader().AwaitDone(0, 1, kLong), (DoneMark{1, 11}));
  EXPECT_EQ(*leader().AwaitDone(1, 1, kLong), (DoneMark{1, 12}));
  EXPECT_EQ(*leader().AwaitDone(0, 2, kLong), (DoneMark{2, 21}));
  EXPECT_EQ(*leader().AwaitDone(1, 2, kLong), (DoneMark{2, 22}));
}

TEST_P(ControlChannelTest, AMarkThatComesLaterIsWaitedFor) {
  std::thread reporter([this] {
    EXPECT_TRUE(follower(0).Receive().ok());
    follower(0).Report({.number = 1, .hash = 5});
  });
  ASSERT_TRUE(leader().Send(1, "plan", kLong).ok());

  EXPECT_EQ(*leader().AwaitDone(0, 1, kLong), (DoneMark{1, 5}));
  reporter.join();
}

TEST_P(ControlChannelTest, AMissingMarkEndsTheWaitInTime) {
  EXPECT_EQ(leader().AwaitDone(0, 1, kShort).status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_P(ControlChannelTest, ClosingEndsEveryWait) {
  std::thread first(
      [this] { EXPECT_EQ(follower(0).Receive().status().code(), absl::StatusCode::kCancelled); });
  std::thread leading([this] {
    EXPECT_EQ(leader().AwaitDone(1, 1, kLong).status().code(), absl::StatusCode::kCancelled);
  });

  leader().Close();

  first.join();
  leading.join();
  EXPECT_EQ(leader().Send(1, "plan", kLong).code(), absl::StatusCode::kCancelled);
}

TEST_P(ControlChannelTest, AMessageBeyondTheLimitIsRefused) {
  EXPECT_EQ(leader().Send(1, std::string(kMaxMessageBytes + 1, 'x'), kShort).code(),
            absl::StatusCode::kOutOfRange);
}

TEST(ShmChannelTest, AMessageLongerThanTheRingTravels) {
  GroupMemory memory = *GroupMemory::Create({.tp = 2, .ring_bytes = 4096});
  ShmLeaderChannel leader(memory);
  ShmFollowerChannel follower(memory, 1);
  const std::string message(100'000, 'y');
  absl::StatusOr<std::string> received;
  std::thread reader([&] { received = follower.Receive(); });

  EXPECT_TRUE(leader.Send(1, message, kLong).ok());
  reader.join();

  ASSERT_TRUE(received.ok()) << received.status();
  EXPECT_EQ(*received, message);
}

TEST(ShmChannelTest, AGroupOfOneKeepsItsPlansInTheRing) {
  GroupMemory memory = *GroupMemory::Create({.tp = 1, .ring_bytes = 4096});
  ShmLeaderChannel leader(memory);

  for (uint64_t n = 1; n <= 100; ++n) {
    ASSERT_TRUE(leader.Send(n, std::string(500, 'x'), kShort).ok());
  }

  const auto history = PlanRing(memory.header().ring, memory.ring()).History();
  ASSERT_FALSE(history.empty());
  EXPECT_EQ(history.back().number, 100u);
}

TEST(ShmChannelTest, ADamagedRingEndsTheFollower) {
  GroupMemory memory = *GroupMemory::Create({.tp = 2, .ring_bytes = 4096});
  ShmLeaderChannel leader(memory);
  ShmFollowerChannel follower(memory, 1);
  ASSERT_TRUE(leader.Send(1, "plan", kShort).ok());
  memory.ring()[33] ^= std::byte{4};

  EXPECT_EQ(follower.Receive().status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace conclave::worker
