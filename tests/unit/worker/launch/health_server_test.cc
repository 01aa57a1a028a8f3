#include "worker/launch/health_server.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "common/status.h"

namespace conclave::worker {
namespace {

// What grpc.health.v1 answers; its messages are small enough to be written by hand.
std::string Check(int port, const std::string& service) {
  const auto channel =
      grpc::CreateChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials());
  std::string request =
      service.empty() ? "" : "\x0a" + std::string(1, static_cast<char>(service.size())) + service;
  grpc::Slice slice(request);
  const grpc::ByteBuffer bytes(&slice, 1);
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  grpc::GenericStub stub(channel);
  const auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", bytes, &queue);
  call->StartCall();
  grpc::ByteBuffer answer;
  grpc::Status status;
  call->Finish(&answer, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  if (!status.ok()) return "error " + std::to_string(status.error_code());
  grpc::Slice told;
  if (!answer.DumpToSingleSlice(&told).ok() || told.size() != 2) return "no answer";
  return told.begin()[1] == 1 ? "serving" : "not serving";
}

TEST(HealthServerTest, AHostIsAliveBeforeItsGroupServes) {
  HealthServer server;
  ASSERT_TRUE(server.Start("127.0.0.1:0").ok());

  EXPECT_EQ(Check(server.port(), "liveness"), "serving");
  for (const char* name : {"", "readiness", "conclave.v1.WorkerService"}) {
    EXPECT_EQ(Check(server.port(), name), "not serving") << name;
  }
  EXPECT_EQ(Check(server.port(), "another"), "error 5");
}

TEST(HealthServerTest, ReadinessFollowsTheGroup) {
  HealthServer server;
  ASSERT_TRUE(server.Start("127.0.0.1:0").ok());

  server.SetReady(true);
  EXPECT_EQ(Check(server.port(), "readiness"), "serving");

  server.SetReady(false);
  EXPECT_EQ(Check(server.port(), "readiness"), "not serving");
  EXPECT_EQ(Check(server.port(), "liveness"), "serving");
}

TEST(HealthServerTest, AnAddressInUseIsAnError) {
  HealthServer first, second;
  ASSERT_TRUE(first.Start("127.0.0.1:0").ok());

  EXPECT_EQ(second.Start("127.0.0.1:" + std::to_string(first.port())).code(),
            absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace conclave::worker
