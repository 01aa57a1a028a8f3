#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "tests/unit/router/api/held.h"

// What outlives its client's stream, for how long, and what makes way for what.
namespace conclave::router {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr int kPieces = 40;

v1::GenerateRequest Named(const std::string& id) {
  v1::GenerateRequest request = KeptQuestion();
  request.set_request_id(id);
  return request;
}

grpc::StatusCode CodeOf(const Heard& heard) { return heard.status.error_code(); }

// Takes up by name alone.
Heard TakeUp(ApiRig& rig, const std::string& id, const std::string& authorization = "") {
  v1::GenerateRequest bare;
  bare.set_request_id(id);
  return ListenToTheRest(rig, bare, "", authorization);
}

TEST(KeepTest, ARequestLivesOnWithItsTicketUntilItsTimeIsUp) {
  ApiRig rig;
  rig.worker().HoldAfter(2);
  v1::GenerateRequest request = Named("r1");
  request.mutable_keep_for()->set_seconds(0);
  request.mutable_keep_for()->set_nanos(1);
  AskAndBreak(rig, request, 0);
  ASSERT_TRUE(AwaitMetric(rig, "conclave_requests_kept 1"));
  EXPECT_EQ(rig.admission().running(), 1);
  EXPECT_TRUE(rig.worker().AwaitOpenFamilies(1));

  rig.rpc().Sweep();

  EXPECT_TRUE(rig.worker().AwaitOpenFamilies(0));
  EXPECT_TRUE(AwaitMetric(rig, "conclave_requests_kept 0"));
  EXPECT_TRUE(AwaitMetric(rig, "conclave_requests_outlived_total 1"));
  EXPECT_EQ(CodeOf(TakeUp(rig, "r1")), grpc::StatusCode::NOT_FOUND);
}

TEST(KeepTest, WhatHasEndedStaysUntilItsTimeIsUpAlsoAfterItWasReadToTheEnd) {
  ApiRig rig;
  const Heard first = Listen(rig, Named("r1"));
  rig.rpc().Sweep();

  const Heard again = TakeUp(rig, "r1");

  ASSERT_TRUE(again.status.ok()) << again.status.error_message();
  EXPECT_EQ(again.completed().receipt().result_hash(), first.completed().receipt().result_hash());
  EXPECT_EQ(rig.admission().running(), 0) << "what has ended holds no ticket";
  EXPECT_EQ(rig.worker().openings().size(), 1u);
}

TEST(KeepTest, TheServersLimitEndsItSooner) {
  RigOptions options;
  options.service.keep.longest = absl::ZeroDuration();
  ApiRig rig(options);
  rig.worker().HoldAfter(2);

  AskAndBreak(rig, Named("r1"), 0);

  EXPECT_TRUE(rig.worker().AwaitOpenFamilies(0));
  EXPECT_EQ(CodeOf(TakeUp(rig, "r1")), grpc::StatusCode::NOT_FOUND);
}

TEST(KeepTest, AnotherTenantFindsNothingThere) {
  RigOptions options = WithTenants({"acme", "evil"});
  ApiRig rig(options);
  {
    grpc::ClientContext context;
    context.AddMetadata("authorization", "Bearer acme");
    ASSERT_TRUE(ReadOut(*rig.stub().Generate(&context, Named("r1"))).status.ok());
  }

  const Heard other = TakeUp(rig, "r1", "Bearer evil");
  const Heard nobody = TakeUp(rig, "r2", "Bearer evil");

  EXPECT_EQ(CodeOf(other), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(CodeOf(nobody), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(nobody.status.error_message(),
              HasSubstr(other.status.error_message().substr(sizeof "request r1")));
  EXPECT_EQ(CodeOf(TakeUp(rig, "r1")), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_TRUE(TakeUp(rig, "r1", "Bearer acme").status.ok());
}

TEST(KeepTest, AnIdIsTakenWhileItsRequestRunsAndIsKept) {
  ApiRig rig;
  rig.worker().HoldAfter(2);
  AskAndBreak(rig, Named("r1"), 0);
  ASSERT_TRUE(AwaitMetric(rig, "conclave_requests_kept 1"));

  const Heard second = Listen(rig, Named("r1"));

  EXPECT_EQ(CodeOf(second), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_THAT(second.status.error_message(), HasSubstr("`resume` takes up its stream"));
  rig.worker().Release();
  ASSERT_TRUE(rig.worker().AwaitOpenFamilies(0));
  ASSERT_TRUE(TakeUp(rig, "r1").status.ok());
  EXPECT_TRUE(Listen(rig, Named("r1")).status.ok()) << "one that has ended makes way";
  EXPECT_EQ(rig.worker().openings().size(), 2u);
}

TEST(KeepTest, WithoutKeepForSeveralMayHaveOneId) {
  ApiRig rig;
  rig.worker().HoldAfter(2);
  v1::GenerateRequest request = Ask(v1::MODE_INSTANT);
  request.set_request_id("r1");
  grpc::ClientContext context, other;
  const auto first = rig.stub().Generate(&context, request);
  const auto second = rig.stub().Generate(&other, request);
  ASSERT_TRUE(rig.worker().AwaitTokens(4));
  rig.worker().Release();

  EXPECT_TRUE(ReadOut(*first).status.ok());
  EXPECT_TRUE(ReadOut(*second).status.ok());
}

TEST(KeepTest, BeyondTheirNumberWhatHasEndedMakesWayAndWhatRunsDoesNot) {
  RigOptions options;
  options.service.keep.max_requests = 1;
  ApiRig rig(options);
  Listen(rig, Named("ended"));
  rig.worker().HoldAfter(2);

  AskAndBreak(rig, Named("runs"), 0);
  ASSERT_TRUE(rig.worker().AwaitTokens(5));
  ASSERT_TRUE(AwaitMetric(rig, "conclave_requests_outlived_total 2"));
  EXPECT_EQ(CodeOf(TakeUp(rig, "ended")), grpc::StatusCode::NOT_FOUND);

  AskAndBreak(rig, Named("late"), 0);
  ASSERT_TRUE(rig.worker().AwaitOpenFamilies(1));
  EXPECT_EQ(CodeOf(TakeUp(rig, "late")), grpc::StatusCode::NOT_FOUND);
  rig.worker().Release();
  EXPECT_TRUE(TakeUp(rig, "runs").status.ok());
}

TEST(KeepTest, BeyondTheirNumberATenantMakesWayForItself) {
  RigOptions options = WithTenants({"many", "long"});
  options.service.keep.max_requests = 3;
  ApiRig rig(options, SpeechOf(1000));
  const auto ask = [&](const std::string& tenant, const std::string& id, int tokens) {
    grpc::ClientContext context;
    context.AddMetadata("authorization", "Bearer " + tenant);
    v1::GenerateRequest request = Named(id);
    request.mutable_budget()->set_answer_tokens(tokens);
    return ReadOut(*rig.stub().Generate(&context, request)).status.ok();
  };
  ASSERT_TRUE(ask("long", "l", 2000));
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(ask("many", "m" + std::to_string(i), 1));

  EXPECT_TRUE(TakeUp(rig, "l", "Bearer long").status.ok()) << "its bytes were not short";
  EXPECT_EQ(CodeOf(TakeUp(rig, "m1", "Bearer many")), grpc::StatusCode::NOT_FOUND);
  EXPECT_TRUE(TakeUp(rig, "m3", "Bearer many").status.ok());
}

TEST(KeepTest, BeyondTheirBytesATenantMakesWayForItself) {
  RigOptions options = WithTenants({"loud", "quiet"});
  options.service.keep.max_bytes = {150'000};
  // 10 kB of log each, and what surrounds it: the more, the fewer tokens an event has.
  ApiRig rig(options, SpeechOf(1000));
  const auto ask = [&](const std::string& tenant, const std::string& id) {
    grpc::ClientContext context;
    context.AddMetadata("authorization", "Bearer " + tenant);
    v1::GenerateRequest request = Named(id);
    request.mutable_budget()->set_answer_tokens(2000);
    return ReadOut(*rig.stub().Generate(&context, request)).status.ok();
  };
  ASSERT_TRUE(ask("quiet", "q"));
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(ask("loud", "l" + std::to_string(i)));

  EXPECT_TRUE(TakeUp(rig, "q", "Bearer quiet").status.ok());
  EXPECT_EQ(CodeOf(TakeUp(rig, "l0", "Bearer loud")), grpc::StatusCode::NOT_FOUND);
  EXPECT_TRUE(TakeUp(rig, "l19", "Bearer loud").status.ok());
}

TEST(KeepTest, WithoutBytesARequestIsServedAsIfItHadAskedForNone) {
  RigOptions options;
  options.service.keep.max_bytes = {100};
  ApiRig rig(options, SpeechOf(100));

  EXPECT_TRUE(Listen(rig, Named("r1")).status.ok());
  EXPECT_EQ(CodeOf(TakeUp(rig, "r1")), grpc::StatusCode::NOT_FOUND);

  rig.worker().HoldAfter(20);
  AskAndBreak(rig, Named("r2"), 100);
  EXPECT_TRUE(rig.worker().AwaitOpenFamilies(0));
}

TEST(KeepTest, ARequestThatOutgrowsItsBytesWithoutAClientIsCancelled) {
  RigOptions options;
  options.service.keep.max_bytes = {4'000};
  ApiRig rig(options, [](AgentId) {
    return FakeSpeech{{}, std::vector<std::string>(100, std::string(100, 'x'))};
  });
  rig.worker().HoldAfter(2);
  v1::GenerateRequest request = Named("r1");
  request.mutable_budget()->set_answer_tokens(200);
  AskAndBreak(rig, request, 200);
  ASSERT_TRUE(AwaitMetric(rig, "conclave_requests_kept 1"));

  rig.worker().HoldAfter(50);

  EXPECT_TRUE(rig.worker().AwaitOpenFamilies(0));
  rig.rpc().Sweep();
  EXPECT_TRUE(AwaitMetric(rig, "conclave_requests_kept 0"));
  EXPECT_TRUE(AwaitMetric(rig, "conclave_kept_log_bytes 0"));
}

// A stream of which only the first event was read.
struct OpenStream {
  OpenStream(ApiRig& rig, const v1::GenerateRequest& request)
      : reader(rig.stub().Generate(&context, request)) {
    v1::GenerateResponse event;
    admitted = reader->Read(&event);
  }
  ~OpenStream() {
    context.TryCancel();
    reader->Finish();
  }

  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader;
  bool admitted = false;
};

// The end of the broken stream and the call that takes it up come at the same time.
TEST(KeepTest, WhoTakesUpWhileTheFormerClientLeavesIsNotTakenForGone) {
  RigOptions options;
  options.credits = 1000;
  ApiRig rig(options, SpeechOf(kPieces));
  rig.worker().HoldAfter(2);
  v1::GenerateRequest request = Named("r1");
  request.clear_keep_for();
  std::vector<std::unique_ptr<OpenStream>> others;  // To be looked through for the kept one.
  for (int i = 0; i < 200; ++i) others.push_back(std::make_unique<OpenStream>(rig, request));
  request.mutable_keep_for()->set_nanos(1);
  auto present = std::make_unique<OpenStream>(rig, request);

  for (int i = 0; i < 2000; ++i) {
    present->context.TryCancel();
    auto next = std::make_unique<OpenStream>(rig, Resume(request, ""));
    ASSERT_TRUE(next->admitted) << i;
    rig.rpc().Sweep();  // Lets go of it if it counts as one without a client.
    present = std::move(next);
  }

  EXPECT_EQ(rig.worker().openings().size(), 201u) << "it was let go, and run again";
}

// Clients that ask, take up, stop and leave under one name, all at once: each call ends with one of
// the words that the API has for it, and nothing is left in the end.
TEST(KeepTest, ManyClientsUnderOneNameHarmNobody) {
  ApiRig rig({}, SpeechOf(kPieces));
  const auto client = [&rig](unsigned seed) {
    std::mt19937 random(seed);
    for (int i = 0; i < 60; ++i) {
      grpc::ClientContext context;
      grpc::Status status;
      if (random() % 4 == 0) {
        v1::StopRequest stop;
        stop.set_request_id("r1");
        v1::StopResponse response;
        status = rig.stub().Stop(&context, stop, &response);
      } else {
        const bool resumes = random() % 2 == 0;
        const std::string held = AnswerOf(static_cast<int>(random() % 3));
        const auto reader =
            rig.stub().Generate(&context, resumes ? Resume(KeptQuestion(), held) : KeptQuestion());
        v1::GenerateResponse event;
        for (auto left = random() % 20; left > 0 && reader->Read(&event); --left) {
        }
        if (random() % 3 == 0) context.TryCancel();
        while (reader->Read(&event)) {
        }
        status = reader->Finish();
      }
      EXPECT_THAT(
          status.error_code(),
          AnyOf(grpc::StatusCode::OK, grpc::StatusCode::CANCELLED, grpc::StatusCode::ABORTED,
                grpc::StatusCode::ALREADY_EXISTS, grpc::StatusCode::NOT_FOUND))
          << status.error_message();
    }
  };
  std::vector<std::thread> clients;
  for (unsigned seed = 1; seed <= 6; ++seed) clients.emplace_back(client, seed);
  for (std::thread& thread : clients) thread.join();

  // A call's end may still be on its way to the router.
  for (const absl::Time end = absl::Now() + absl::Seconds(60); absl::Now() < end;) {
    rig.rpc().LetGo();
    const bool no_log =
        rig.metrics().Text().find("\nconclave_kept_log_bytes 0\n") != std::string::npos;
    if (no_log && rig.admission().running() == 0) break;
    std::this_thread::yield();
  }
  EXPECT_TRUE(rig.worker().AwaitOpenFamilies(0));
  rig.rpc().LetGo();
  EXPECT_TRUE(AwaitMetric(rig, "conclave_kept_log_bytes 0"));
  EXPECT_EQ(rig.admission().running(), 0);
}

TEST(KeepTest, ASlowReaderIsNeverSentMoreThanAClientTakes) {
  ApiRig rig({}, [](AgentId) {
    return FakeSpeech{std::vector<std::string>(60, std::string(100'000, 'x')), {"Answer: 1"}};
  });
  v1::GenerateRequest request = Ask(v1::MODE_THINKING);
  request.add_include(v1::INCLUDE_THINKING);
  grpc::ClientContext context;  // Its channel takes gRPC's default, 4 MiB a message.
  const auto slow = rig.stub().Generate(&context, request);
  ASSERT_TRUE(rig.worker().AwaitTokens(61));
  ASSERT_TRUE(rig.worker().AwaitOpenFamilies(0));

  const Heard heard = ReadOut(*slow);

  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  size_t thought = 0;
  for (const auto& event : heard.events) thought += event.agent_delta().thinking().size();
  EXPECT_EQ(thought, 6'000'000u);
}

}  // namespace
}  // namespace conclave::router
