#include "common/wire/raw_message.h"

#include <gtest/gtest.h>

#include <string>

#include "common/status.h"
#include "conclave/v1/conclave.pb.h"

namespace conclave {
namespace {

grpc::ByteBuffer Bytes(const std::string& text) {
  const grpc::Slice slice(text);
  return grpc::ByteBuffer(&slice, 1);
}

std::string WhyNot(grpc::ByteBuffer bytes) {
  v1::StopRequest request;
  const absl::Status status = ReadMessage(bytes, request);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(MessageOf(status));
}

TEST(RawMessageTest, WhatIsWrittenIsRead) {
  v1::StopRequest request;
  request.set_request_id("r1");
  grpc::ByteBuffer bytes;
  WriteMessage(request, bytes);
  v1::StopRequest read;

  ASSERT_TRUE(ReadMessage(bytes, read).ok());

  EXPECT_EQ(read.request_id(), "r1");
  EXPECT_EQ(bytes.Length(), 0u);
}

TEST(RawMessageTest, AnEmptyMessageIsOneAndNoneIsNone) {
  grpc::ByteBuffer empty = Bytes("");
  v1::StopRequest request;
  EXPECT_TRUE(ReadMessage(empty, request).ok());

  EXPECT_EQ(WhyNot(grpc::ByteBuffer()), "no StopRequest came");
}

TEST(RawMessageTest, BytesThatAreNoMessageAreRefusedInWords) {
  const std::string wrong = "the bytes are no StopRequest with texts in UTF-8";
  EXPECT_EQ(WhyNot(Bytes("\xFF\xFF\xFF\xFF")), wrong);
  EXPECT_EQ(WhyNot(Bytes("\x0A\x05r1")), wrong);
  EXPECT_EQ(WhyNot(Bytes("\x0A\x02\xFF\xFE")), wrong);
}

}  // namespace
}  // namespace conclave
