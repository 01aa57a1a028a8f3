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

// A peer would answer more with an error of its own.
TEST(GrpcStatusTest, WhatWouldNotFitIntoAPeersTrailersIsCutOrLeftOut) {
  StatusDetails details;
  for (int i = 0; i < 20; ++i) details.fields.emplace_back("field", std::string(5000, '\xFF'));
  details.retry_after = absl::Seconds(2);
  details.request_id = "r1";
  const std::string text = std::string(1023, 'a') + "\u00e9" + std::string(9000, 'b');

  const grpc::Status status = ToGrpc(WithDetails(Unavailable("{}", text), details));

  EXPECT_EQ(status.error_message(), std::string(1023, 'a') + "...");
  EXPECT_LE(ToGrpc(Unavailable("{}", std::string(1024, '\xFF'))).error_message().size(), 1027u);
  EXPECT_LT(3 * status.error_message().size() + 4 * status.error_details().size() / 3, 7000u);
  const StatusDetails told = DetailsOf(FromGrpc(status));
  EXPECT_TRUE(told.fields.empty());
  EXPECT_EQ(told.retry_after, absl::Seconds(2));
  EXPECT_EQ(told.request_id, "r1");
}

TEST(GrpcStatusTest, WordsThatAreNotUtf8TakeNoDetailsWithThem) {
  const grpc::Status status = ToGrpc(WithRetryAfter(Unavailable("no file \xFF"), absl::Seconds(2)));

  EXPECT_EQ(status.error_message(), "no file \uFFFD");
  EXPECT_EQ(DetailsOf(FromGrpc(status)).retry_after, absl::Seconds(2));
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
