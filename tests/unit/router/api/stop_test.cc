#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/unit/router/api/held.h"

// The best answer so far, at once.
namespace conclave::router {
namespace {

using ::testing::HasSubstr;
using Event = v1::GenerateResponse;

grpc::Status Stop(ApiRig& rig, const std::string& id, const std::string& authorization = "") {
  grpc::ClientContext context;
  if (!authorization.empty()) context.AddMetadata("authorization", authorization);
  v1::StopRequest request;
  request.set_request_id(id);
  v1::StopResponse response;
  return rig.stub().Stop(&context, request, &response);
}

// Agent 0 is done after 8 tokens; the others go on.
FakeSpeech OneIsQuick(AgentId agent) {
  FakeSpeech speech = ThirdOfIndex(agent);
  if (IndexOf(agent) > 0) speech.thinking.resize(50, "hm ");
  return speech;
}

v1::GenerateRequest Named(const std::string& id) {
  v1::GenerateRequest request = Ask(v1::MODE_CONTEMPLATING, 4);
  request.set_request_id(id);
  return request;
}

TEST(StopTest, TheStreamBringsTheBestAnswerSoFar) {
  ApiRig rig({}, OneIsQuick);
  rig.worker().HoldAfter(20);
  grpc::ClientContext context;
  const auto reader = rig.stub().Generate(&context, Named("r1"));
  ASSERT_TRUE(rig.worker().AwaitTokens(8 + 3 * 20));

  const grpc::Status stopped = Stop(rig, "r1");
  const Heard heard = ReadOut(*reader);

  EXPECT_TRUE(stopped.ok()) << stopped.error_message();
  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_EQ(heard.Answer(), "Answer: 0");
  EXPECT_TRUE(heard.completed().incomplete());
  ASSERT_EQ(heard.completed().receipt().decisions_size(), 1);
  EXPECT_EQ(heard.completed().receipt().decisions(0).kind(), v1::Decision::KIND_STOP_NOW);
  EXPECT_TRUE(rig.worker().AwaitOpenFamilies(0));
  EXPECT_EQ(Stop(rig, "r1").error_code(), grpc::StatusCode::NOT_FOUND) << "it has ended";
}

TEST(StopTest, TheUnaryFormIsAnsweredToo) {
  ApiRig rig({}, OneIsQuick);
  rig.worker().HoldAfter(20);
  v1::GenerateOnceResponse response;
  grpc::Status status;
  std::thread asker([&] {
    grpc::ClientContext context;
    v1::GenerateOnceRequest once;
    *once.mutable_request() = Named("r1");
    status = rig.stub().GenerateOnce(&context, once, &response);
  });
  ASSERT_TRUE(rig.worker().AwaitTokens(8 + 3 * 20));

  EXPECT_TRUE(Stop(rig, "r1").ok());

  asker.join();
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.completed().answer(), "Answer: 0");
  EXPECT_TRUE(response.completed().incomplete());
}

TEST(StopTest, ARequestThatIsKeptIsStoppedAndItsAnswerFetched) {
  ApiRig rig({}, OneIsQuick);
  rig.worker().HoldAfter(20);
  v1::GenerateRequest request = Named("r1");
  request.mutable_keep_for()->set_seconds(60);
  AskAndBreak(rig, request, 0);
  ASSERT_TRUE(AwaitMetric(rig, "conclave_requests_kept 1"));
  ASSERT_TRUE(rig.worker().AwaitTokens(8 + 3 * 20));

  EXPECT_TRUE(Stop(rig, "r1").ok());

  EXPECT_TRUE(rig.worker().AwaitOpenFamilies(0));
  EXPECT_TRUE(ListenToTheRest(rig, request, "").completed().incomplete());
}

TEST(StopTest, OnlyTheCallersOwnRequestsAreStopped) {
  RigOptions options = WithTenants({"acme", "evil"});
  ApiRig rig(options);
  rig.worker().HoldAfter(2);
  grpc::ClientContext context;
  context.AddMetadata("authorization", "Bearer acme");
  const auto reader = rig.stub().Generate(&context, Named("r1"));
  ASSERT_TRUE(rig.worker().AwaitTokens(8));

  const grpc::Status other = Stop(rig, "r1", "Bearer evil");

  EXPECT_EQ(other.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(other.error_message(), "no request r1 runs here");
  rig.worker().Release();
  EXPECT_FALSE(ReadOut(*reader).completed().incomplete());
}

TEST(StopTest, WhatCannotBeStoppedSaysWhy) {
  ApiRig rig;
  EXPECT_EQ(Stop(rig, "").error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Stop(rig, "nobody").error_code(), grpc::StatusCode::NOT_FOUND);

  rig.worker().HoldAfter(2);
  v1::GenerateRequest request = Named("r1");
  v1::Replay& replay = *request.mutable_replay();
  replay.set_seed(request.seed());
  replay.set_fingerprint("f00d");
  replay.set_decision_version(kDecisionVersion);
  grpc::ClientContext context;
  const auto reader = rig.stub().Generate(&context, request);
  ASSERT_TRUE(rig.worker().AwaitTokens(8));
  const grpc::Status replayed = Stop(rig, "r1");
  EXPECT_EQ(replayed.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(replayed.error_message(), HasSubstr("a replay takes no decision of its own"));
  rig.worker().Release();
  EXPECT_TRUE(ReadOut(*reader).status.ok());
}

}  // namespace
}  // namespace conclave::router
