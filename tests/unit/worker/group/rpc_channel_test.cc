#include "worker/group/rpc_channel.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "conclave/v1/group.grpc.pb.h"
#include "tests/fakes/certificate.h"
#include "worker/group/shm_channel.h"

namespace conclave::worker {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kLong = absl::Seconds(60);
constexpr uint64_t kEpoch = 3, kNonce = 77;

// A leader with one follower on its own host (rank 1) and two on another (ranks 2 and 3).
class RpcChannelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    server_ = std::make_unique<PlanServer>(memory_, 2);
    ASSERT_TRUE(server_->Start("127.0.0.1:0", {}).ok());
  }

  RpcFollowerOptions OptionsOf(int rank) const {
    return {.leader = "127.0.0.1:" + memory_.header().plan_port.Get(),
            .epoch = kEpoch,
            .nonce = kNonce,
            .rank = rank,
            .connect_patience = kLong};
  }
  std::unique_ptr<RpcFollowerChannel> Connect(const RpcFollowerOptions& options) {
    auto channel = RpcFollowerChannel::Connect(options);
    EXPECT_TRUE(channel.ok()) << channel.status();
    return *std::move(channel);
  }
  absl::Status WhyNot(const RpcFollowerOptions& options) {
    return Connect(options)->Receive().status();
  }

  GroupMemory memory_ =
      *GroupMemory::Create({.tp = 4, .epoch = kEpoch, .nonce = kNonce, .ring_bytes = 4096});
  std::unique_ptr<PlanServer> server_;
  ShmLeaderChannel leader_{memory_};
};

TEST_F(RpcChannelTest, FollowersOfBothKindsReceiveTheSameAndTheirMarksComeBack) {
  constexpr uint64_t kPlans = 200;
  const auto follow = [](FollowerChannel& channel, uint64_t rank) {
    std::vector<std::string> received;
    for (uint64_t n = 1; n <= kPlans; ++n) {
      received.push_back(*channel.Receive());
      channel.Report({.number = n, .hash = 10 * n + rank});
    }
    return received;
  };
  ShmFollowerChannel near(memory_, 1);
  const auto second = Connect(OptionsOf(2)), third = Connect(OptionsOf(3));
  std::vector<FollowerChannel*> channels = {&near, second.get(), third.get()};
  std::vector<std::vector<std::string>> received(3);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 3; ++i) {
    threads.emplace_back([&, i] { received[i] = follow(*channels[i], i + 1); });
  }

  std::vector<std::string> sent;
  for (uint64_t n = 1; n <= kPlans; ++n) {
    sent.push_back(std::to_string(n) + std::string(1 + 37 * n % 3000, 'x'));
    ASSERT_TRUE(leader_.Send(n, sent.back(), kLong).ok());
    for (int i = 0; i < 3; ++i) {
      const auto mark = leader_.AwaitDone(i, n, kLong);
      ASSERT_TRUE(mark.ok()) << mark.status();
      EXPECT_EQ(mark->hash, 10 * n + static_cast<uint64_t>(i) + 1);
    }
  }
  for (std::thread& each : threads) each.join();

  for (const auto& each : received) EXPECT_EQ(each, sent);
}

TEST_F(RpcChannelTest, AFlightKnowsTheHashesOfFollowersElsewhere) {
  const auto second = Connect(OptionsOf(2)), third = Connect(OptionsOf(3));
  ShmFollowerChannel near(memory_, 1);
  ASSERT_TRUE(leader_.Send(1, "plan", kLong).ok());
  ASSERT_TRUE(third->Receive().ok());

  third->Report({.number = 1, .hash = 42});

  ASSERT_TRUE(leader_.AwaitDone(2, 1, kLong).ok());
  EXPECT_EQ(memory_.cell(3).step_hashes[1].load(), 42u);
}

TEST_F(RpcChannelTest, AFollowerOfAnotherEpochIsRefused) {
  RpcFollowerOptions old = OptionsOf(2);
  old.epoch = kEpoch - 1;
  EXPECT_EQ(WhyNot(old).code(), absl::StatusCode::kFailedPrecondition);

  // Of a launcher that was started anew, and counts from 1 again.
  RpcFollowerOptions other = OptionsOf(2);
  other.nonce = kNonce + 1;
  EXPECT_EQ(WhyNot(other).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(WhyNot(other).ToString(), HasSubstr("rank 2 is of epoch 3"));
}

TEST_F(RpcChannelTest, OnlyRanksOfOtherHostsAreTakenAndOnlyOnce) {
  EXPECT_EQ(WhyNot(OptionsOf(1)).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(WhyNot(OptionsOf(4)).code(), absl::StatusCode::kFailedPrecondition);
  const auto second = Connect(OptionsOf(2));
  ASSERT_TRUE(leader_.Send(1, "plan", kLong).ok());
  ASSERT_TRUE(second->Receive().ok());

  EXPECT_EQ(WhyNot(OptionsOf(2)).code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(RpcChannelTest, ClosingEndsFollowersInOrder) {
  const auto second = Connect(OptionsOf(2));
  ASSERT_TRUE(leader_.Send(1, "plan", kLong).ok());
  ASSERT_TRUE(second->Receive().ok());

  leader_.Close();

  EXPECT_EQ(second->Receive().status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(second->Receive().status().code(), absl::StatusCode::kCancelled);
}

TEST_F(RpcChannelTest, ALeaderThatGoesIsALoss) {
  const auto second = Connect(OptionsOf(2));
  ASSERT_TRUE(leader_.Send(1, "plan", kLong).ok());
  ASSERT_TRUE(second->Receive().ok());
  second->Report({.number = 2, .hash = 1});  // Nobody sent that step: it is put out.

  EXPECT_EQ(second->Receive().status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(RpcChannelTest, AFollowerThatIsLostHoldsNoOneBackButTheLeader) {
  ShmFollowerChannel near(memory_, 1);
  auto second = Connect(OptionsOf(2));
  const auto third = Connect(OptionsOf(3));
  ASSERT_TRUE(leader_.Send(1, "plan", kLong).ok());
  ASSERT_TRUE(second->Receive().ok());
  second.reset();

  ASSERT_TRUE(third->Receive().ok());
  third->Report({.number = 1, .hash = 1});
  EXPECT_TRUE(leader_.AwaitDone(2, 1, kLong).ok());
  EXPECT_EQ(leader_.AwaitDone(1, 1, absl::Milliseconds(20)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST_F(RpcChannelTest, WhoeverSaysSomethingElseFirstIsRefused) {
  const auto stub = v1::GroupService::NewStub(grpc::CreateChannel(
      "127.0.0.1:" + memory_.header().plan_port.Get(), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  const auto stream = stub->Follow(&context);
  v1::FollowRequest request;
  request.mutable_mark()->set_number(1);
  stream->Write(request);

  v1::FollowResponse response;
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST(RpcFollowerTest, PlansAreGivenToThoseWithACertificateOfTheGroups) {
  const Certificate files = MakeCertificate(testing::TempDir(), "rpc-channel-test", "IP:127.0.0.1");
  const TlsOptions tls = {files.certificate, files.key, files.certificate};
  GroupMemory memory = *GroupMemory::Create({.tp = 2});
  PlanServer server(memory, 1);
  ASSERT_TRUE(server.Start("127.0.0.1:0", tls).ok());
  ASSERT_TRUE(ShmLeaderChannel(memory).Send(1, "plan", kLong).ok());
  RpcFollowerOptions options = {.leader = "127.0.0.1:" + std::to_string(server.port()),
                                .connect_patience = absl::Milliseconds(500)};

  EXPECT_FALSE(RpcFollowerChannel::Connect(options).ok());  // In plaintext.

  options.tls = tls;
  options.connect_patience = kLong;
  auto follower = RpcFollowerChannel::Connect(options);
  ASSERT_TRUE(follower.ok()) << follower.status();
  EXPECT_EQ(*(*follower)->Receive(), "plan");
}

TEST(RpcFollowerTest, ALeaderThatIsNotThereIsWaitedForAsLongAsAllowed) {
  const auto channel = RpcFollowerChannel::Connect(
      {.leader = "127.0.0.1:1", .connect_patience = absl::Milliseconds(20)});

  EXPECT_EQ(channel.status().code(), absl::StatusCode::kDeadlineExceeded);
}

}  // namespace
}  // namespace conclave::worker
