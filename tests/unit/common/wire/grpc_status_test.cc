#include "common/wire/grpc_status.h"

#include <gtest/gtest.h>

#include "common/status.h"
#include "common/status_details.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace conclave {
namespace {

TEST(GrpcStatusTest, OkIsOkBothWays) {
  EXPECT_TRUE(ToGrpc(absl::OkStatus()).ok());
  EXPECT_TRUE(FromGrpc(grpc::Status::OK).ok());
}

TEST(GrpcStatusTest, EveryCodeAndMessageComesBack) {
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status = MakeStatus(static_cast<absl::StatusCode>(code), "what happened");

    EXPECT_EQ(ToGrpc(status).error_code(), code);
    EXPECT_EQ(FromGrpc(ToGrpc(status)), status);
  }
}

TEST(GrpcStatusTest, AStatusWithoutDetailsSendsNone) {
  EXPECT_TRUE(ToGrpc(NotFound("x")).error_details().empty());
}

TEST(GrpcStatusTest, DetailsComeBack) {
  StatusDetails details;
  details.fields = {{"messages[2].role", "0 is not a role"}};
  details.quotas = {{"tenant:red", "8 requests"}};
  details.retry_after = absl::Milliseconds(2500);
  details.reason = "GROUP_LOST";
  details.metadata = {{"group", "127.0.0.1:7001"}};
  details.request_id = "r1";

  EXPECT_EQ(DetailsOf(FromGrpc(ToGrpc(WithDetails(Unavailable("x"), details)))), details);
}

TEST(GrpcStatusTest, DetailsAreGooglesMessagesUnderGooglesTypeNames) {
  google::rpc::Status wire;
  ASSERT_TRUE(wire.ParseFromString(
      ToGrpc(WithRetryAfter(Unavailable("x"), absl::Seconds(2))).error_details()));

  ASSERT_EQ(wire.details_size(), 1);
  EXPECT_EQ(wire.code(), 14);
  EXPECT_EQ(wire.message(), "x");
  EXPECT_EQ(wire.details(0).type_url(), "type.googleapis.com/google.rpc.RetryInfo");
}

TEST(GrpcStatusTest, DetailsThatCannotBeReadAreLeftOut) {
  const absl::Status status = FromGrpc({grpc::StatusCode::ABORTED, "x", "\xff\xff not a message"});

  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(DetailsOf(status), StatusDetails{});
}

TEST(GrpcStatusTest, DetailsOfStrangersAndAbsurdDelaysAreLeftOut) {
  google::rpc::Status wire;
  wire.add_details()->set_type_url("type.googleapis.com/somebody.Else");
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(-5);
  wire.add_details()->PackFrom(retry);

  const absl::Status status = FromGrpc({grpc::StatusCode::ABORTED, "x", wire.SerializeAsString()});

  EXPECT_EQ(DetailsOf(status), StatusDetails{});
}

TEST(GrpcStatusTest, FloodsOfDetailsAreCut) {
  google::rpc::BadRequest bad;
  for (int i = 0; i < 1000; ++i) bad.add_field_violations()->set_field("f");
  google::rpc::Status wire;
  wire.add_details()->PackFrom(bad);

  const absl::Status status = FromGrpc({grpc::StatusCode::ABORTED, "x", wire.SerializeAsString()});

  EXPECT_EQ(DetailsOf(status).fields.size(), 32u);
}

TEST(GrpcStatusTest, ACodeOutsideOfGrpcsIsUnknown) {
  EXPECT_EQ(FromGrpc({grpc::StatusCode::DO_NOT_USE, "x"}).code(), absl::StatusCode::kUnknown);
}

}  // namespace
}  // namespace conclave
