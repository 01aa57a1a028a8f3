#include "worker/launch/coordinator.h"

#include <absl/time/clock.h>
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "conclave/v1/group.grpc.pb.h"
#include "tests/fakes/certificate.h"
#include "worker/launch/coordinator_link.h"

namespace conclave::worker {
namespace {

using ::testing::HasSubstr;

// Polls threads of gRPC's; a minute at most.
bool Eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 60'000; ++i) {
    if (condition()) return true;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return false;
}

// A coordinator of two hosts with two ranks each, and links of host 1.
class CoordinatorTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(coordinator_.Start("127.0.0.1:0", {}).ok()); }

  std::unique_ptr<CoordinatorLink> Link(int tp = 4, HostPlace place = {.hosts = 2, .host = 1}) {
    return *CoordinatorLink::Make({.coordinator = Address(), .tp = tp, .place = place});
  }
  std::string Address() const { return "127.0.0.1:" + std::to_string(coordinator_.port()); }
  OtherHosts::Member Host1() { return coordinator_.Look().at(0); }
  absl::Status WhyNot(CoordinatorLink& link) {
    link.Join();
    link.Report({.beat = 1});
    std::optional<absl::Status> end;
    EXPECT_TRUE(Eventually([&] { return (end = link.End()).has_value(); }));
    return end.value_or(absl::OkStatus());
  }

  Coordinator coordinator_{4, 2, absl::Seconds(2)};
};

TEST_F(CoordinatorTest, TheNewestReportsAndOrdersArrive) {
  const auto link = Link();
  EXPECT_FALSE(Host1().here);
  link->Join();
  link->Report({.beat = 1});
  ASSERT_TRUE(Eventually([&] { return Host1().here && Host1().report.beat == 1; }));
  EXPECT_FALSE(link->Orders().has_value());

  const HostOrders orders{.beat = 5, .epoch = {.number = 1, .nonce = 2}};
  coordinator_.Order(orders);
  HostReport report{.beat = 2, .epoch = orders.epoch, .ranks = std::vector<RankReport>(2)};
  report.ranks[1].sight.ready = true;
  link->Report(report);

  ASSERT_TRUE(Eventually([&] { return link->Orders().has_value(); }));
  EXPECT_EQ(*link->Orders(), orders);
  ASSERT_TRUE(Eventually([&] { return Host1().report.beat == 2; }));
  EXPECT_EQ(Host1().report.epoch, orders.epoch);
  EXPECT_TRUE(Host1().report.ranks.at(1).sight.ready);
  EXPECT_FALSE(link->End().has_value());
}

TEST_F(CoordinatorTest, AHostThatLeavesMayComeAgain) {
  const auto link = Link();
  for (int i = 0; i < 2; ++i) {
    link->Join();
    link->Report({.beat = 1});
    ASSERT_TRUE(Eventually([&] { return Host1().here; }));

    link->Leave();

    ASSERT_TRUE(Eventually([&] { return !Host1().here; }));
    EXPECT_EQ(Host1().left, "its connection ended");
  }
}

TEST_F(CoordinatorTest, AHostThatIsDroppedIsToldAndMayComeAgain) {
  const auto link = Link();
  link->Join();
  link->Report({.beat = 1});
  ASSERT_TRUE(Eventually([&] { return Host1().here; }));

  coordinator_.Drop(1, "it was silent");

  EXPECT_FALSE(Host1().here);
  EXPECT_EQ(Host1().left, "it was silent");
  ASSERT_TRUE(Eventually([&] { return link->End().has_value(); }));
  EXPECT_NE(link->End()->code(), absl::StatusCode::kFailedPrecondition);
  link->Join();
  link->Report({.beat = 1});
  EXPECT_TRUE(Eventually([&] { return Host1().here; }));
}

TEST_F(CoordinatorTest, OneHostHasOnePlace) {
  const auto first = Link(), second = Link();
  first->Join();
  first->Report({.beat = 1});
  ASSERT_TRUE(Eventually([&] { return Host1().here; }));

  EXPECT_EQ(WhyNot(*second).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(Host1().here);
  EXPECT_FALSE(first->End().has_value());
}

TEST_F(CoordinatorTest, HostsThatAreConfiguredDifferentlyAreRefusedForGood) {
  const auto expect_refused = [this](int tp, HostPlace place, const std::string& why) {
    const absl::Status status = WhyNot(*Link(tp, place));
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(status.ToString(), HasSubstr(why));
  };
  expect_refused(2, {.hosts = 2, .host = 1}, "tensor_parallel is 2, and host 0's is 4");
  expect_refused(4, {.hosts = 4, .host = 1}, "hosts are 4, and host 0's are 2");
  expect_refused(4, {.hosts = 2, .host = 2}, "host 2 is none of 1 to 1");
  EXPECT_FALSE(Host1().here);
}

TEST_F(CoordinatorTest, AReportThatMakesNoSenseEndsTheMembership) {
  const auto link = Link();
  link->Join();
  link->Report({.beat = 1, .epoch = {.number = 1}, .ranks = std::vector<RankReport>(3)});

  ASSERT_TRUE(Eventually([&] { return !Host1().here && !Host1().left.empty(); }));
  EXPECT_THAT(Host1().left, HasSubstr("ranks are 3; a host has 2"));
  ASSERT_TRUE(Eventually([&] { return link->End().has_value(); }));
  EXPECT_EQ(link->End()->code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(link->End()->ToString(), HasSubstr("ranks are 3; a host has 2"));
}

TEST_F(CoordinatorTest, StrangersWhoSayNothingTakeFewThreadsAndOnlyForAWhile) {
  const auto stub =
      v1::GroupService::NewStub(grpc::CreateChannel(Address(), grpc::InsecureChannelCredentials()));
  struct Stranger {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReaderWriter<v1::JoinRequest, v1::JoinResponse>> stream;
  };
  std::vector<std::unique_ptr<Stranger>> strangers;
  for (int i = 0; i < 20; ++i) {
    auto& stranger = *strangers.emplace_back(std::make_unique<Stranger>());
    stranger.stream = stub->Join(&stranger.context);
  }

  int refused = 0;
  for (const auto& stranger : strangers) {  // They go when they are told to.
    refused += stranger->stream->Finish().error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED;
  }
  EXPECT_GE(refused, 14);
  const auto link = Link();
  link->Join();
  link->Report({.beat = 1});
  EXPECT_TRUE(Eventually([&] { return Host1().here; }));
}

TEST_F(CoordinatorTest, ALinkToNobodyEnds) {
  const auto link = *CoordinatorLink::Make(
      {.coordinator = "127.0.0.1:1", .tp = 4, .place = {.hosts = 2, .host = 1}});

  EXPECT_EQ(WhyNot(*link).code(), absl::StatusCode::kUnavailable);
}

TEST_F(CoordinatorTest, APortInUseIsAnError) {
  EXPECT_EQ(Coordinator(4, 2).Start(Address(), {}).code(), absl::StatusCode::kUnavailable);
}

TEST(CoordinatorTlsTest, OnlyHostsWithACertificateOfTheGroupsJoin) {
  const Certificate files = MakeCertificate(testing::TempDir(), "coordinator-test", "IP:127.0.0.1");
  const TlsOptions tls = {files.certificate, files.key, files.certificate};
  Coordinator coordinator(2, 2);
  ASSERT_TRUE(coordinator.Start("127.0.0.1:0", tls).ok());
  CoordinatorLinkOptions options = {
      .coordinator = "127.0.0.1:" + std::to_string(coordinator.port()),
      .place = {.hosts = 2, .host = 1}};
  const auto joins = [&] {
    const auto link = *CoordinatorLink::Make(options);
    link->Join();
    link->Report({.beat = 1});
    EXPECT_TRUE(Eventually([&] { return coordinator.Look()[0].here || link->End().has_value(); }));
    return coordinator.Look()[0].here;
  };

  EXPECT_FALSE(joins());
  options.tls.authority_file = files.certificate;  // It trusts host 0, and has nothing to show.
  EXPECT_FALSE(joins());
  options.tls = tls;
  EXPECT_TRUE(joins());
}

}  // namespace
}  // namespace conclave::worker
