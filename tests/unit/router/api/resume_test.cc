#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status_details.h"
#include "common/wire/grpc_status.h"
#include "router/api/answer_gate.h"
#include "tests/unit/router/api/held.h"

// A client's stream breaks; the rest comes exactly once, from the router that kept the request or
// from another one.
namespace conclave::router {
namespace {

using ::testing::HasSubstr;
using Event = v1::GenerateResponse;

constexpr int kPieces = 40;

class ResumeTest : public ::testing::TestWithParam<int> {
 protected:
  size_t Held() const { return static_cast<size_t>(GetParam()) * 5; }
};

TEST_P(ResumeTest, WhereItIsKeptTheStreamGoesOn) {
  ApiRig rig({}, SpeechOf(kPieces));
  rig.worker().HoldAfter(GetParam());
  const std::string held = AskAndBreak(rig, KeptQuestion(), Held());
  ASSERT_TRUE(AwaitMetric(rig, "conclave_requests_kept 1"));
  rig.worker().Release();
  v1::GenerateRequest bare;  // Its name is all that it takes.
  bare.set_request_id("r1");

  const Heard heard = ListenToTheRest(rig, bare, held);

  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_EQ(held + heard.Answer(), AnswerOf(kPieces));
  EXPECT_EQ(heard.events.front().admitted().seed(), 7u);
  EXPECT_EQ(heard.CountOf(Event::kAgentStarted), 1);
  EXPECT_EQ(rig.worker().openings().size(), 1u) << "it was run again";
}

TEST_P(ResumeTest, AnotherRouterRunsItAgain) {
  ApiRig first({}, SpeechOf(kPieces)), second({}, SpeechOf(kPieces));
  first.worker().HoldAfter(GetParam());
  const std::string held = AskAndBreak(first, KeptQuestion(), Held());

  const Heard heard = ListenToTheRest(second, KeptQuestion(), held);

  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_EQ(held + heard.Answer(), AnswerOf(kPieces));
  first.worker().Release();
  const Heard kept = ListenToTheRest(first, KeptQuestion(), held);
  EXPECT_EQ(heard.completed().receipt().result_hash(), kept.completed().receipt().result_hash());
}

INSTANTIATE_TEST_SUITE_P(BrokenAfter, ResumeTest, ::testing::Values(0, 1, 7, 39));

TEST(ResumedStreamTest, WhatHasEndedMeanwhileIsToldFromTheBeginning) {
  ApiRig rig;
  v1::GenerateRequest request = Ask(v1::MODE_CONTEMPLATING, 6);
  request.set_request_id("r2");
  request.mutable_keep_for()->set_seconds(60);
  request.add_include(v1::INCLUDE_THINKING);
  request.add_include(v1::INCLUDE_VOTES);
  ApiRig quiet;
  const Heard undisturbed = Listen(quiet, request);
  rig.worker().HoldAfter(2);
  AskAndBreak(rig, request, 0);
  ASSERT_TRUE(AwaitMetric(rig, "conclave_requests_kept 1"));
  rig.worker().Release();
  ASSERT_TRUE(rig.worker().AwaitOpenFamilies(0));

  const Heard heard = ListenToTheRest(rig, request, "");

  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_EQ(heard.completed().receipt().result_hash(),
            undisturbed.completed().receipt().result_hash());
  for (const auto kind :
       {Event::kAgentStarted, Event::kAgentFinished, Event::kAgentCut, Event::kVoteUpdate}) {
    EXPECT_EQ(heard.CountOf(kind), undisturbed.CountOf(kind)) << kind;
  }
  std::map<uint32_t, std::string> thinking, expected;
  for (const auto& event : heard.events) thinking[event.agent()] += event.agent_delta().thinking();
  for (const auto& event : undisturbed.events)
    expected[event.agent()] += event.agent_delta().thinking();
  EXPECT_EQ(thinking, expected);
  // And once more: it is kept from when the second client went.
  EXPECT_TRUE(ListenToTheRest(rig, request, "").status.ok());
}

TEST(ResumedStreamTest, OtherBytesAreNeverSpliced) {
  ApiRig rig({}, SpeechOf(kPieces));
  rig.worker().HoldAfter(4);
  grpc::ClientContext context;
  const auto first = rig.stub().Generate(&context, KeptQuestion());
  ASSERT_TRUE(rig.worker().AwaitTokens(4));

  const Heard other = ListenToTheRest(rig, KeptQuestion(), "0001 ");
  const Heard more = ListenToTheRest(rig, KeptQuestion(), AnswerOf(kPieces));

  EXPECT_EQ(other.status.error_code(), grpc::StatusCode::ABORTED);
  EXPECT_TRUE(other.events.empty());
  EXPECT_EQ(more.status.error_code(), grpc::StatusCode::ABORTED);
  EXPECT_THAT(more.status.error_message(), HasSubstr("answer_bytes is 200; the answer has"));
  rig.worker().Release();
  EXPECT_TRUE(ReadOut(*first).status.ok()) << "the refused one took it over";
  EXPECT_TRUE(AwaitMetric(rig, "conclave_resumes_refused_total{code=\"ABORTED\"} 2"));
}

TEST(ResumedStreamTest, ARunThatComesToAnotherAnswerIsAborted) {
  ApiRig rig({}, SpeechOf(kPieces));
  const std::vector<std::string> wrong = {"0001 ", AnswerOf(kPieces) + "more", "0000 0002 "};
  for (const std::string& held : wrong) {
    const Heard heard = ListenToTheRest(rig, KeptQuestion(), held);
    EXPECT_EQ(heard.status.error_code(), grpc::StatusCode::ABORTED) << held;
    EXPECT_EQ(heard.Answer(), "");
    EXPECT_TRUE(rig.worker().AwaitOpenFamilies(0));
  }
  EXPECT_TRUE(AwaitMetric(rig, "conclave_resumes_refused_total{code=\"ABORTED\"} 3"));
  EXPECT_TRUE(AwaitMetric(rig, "conclave_streams_resumed_total{how=\"run_again\"} 3"));
}

TEST(ResumedStreamTest, TheNewestStreamHasTheRequest) {
  ApiRig rig({}, SpeechOf(kPieces));
  rig.worker().HoldAfter(4);
  grpc::ClientContext context;
  const auto older = rig.stub().Generate(&context, KeptQuestion());
  Event event;
  std::string held;
  while (held.size() < 20 && older->Read(&event)) held += event.answer_delta().text();
  grpc::ClientContext other_context;
  const auto newer = rig.stub().Generate(&other_context, Resume(KeptQuestion(), held));

  const Heard left = [&] {
    Heard heard;
    while (older->Read(&event)) heard.events.push_back(event);
    heard.status = older->Finish();
    return heard;
  }();
  rig.worker().Release();
  std::string rest;
  while (newer->Read(&event)) rest += event.answer_delta().text();

  EXPECT_EQ(left.status.error_code(), grpc::StatusCode::ABORTED);
  EXPECT_THAT(left.status.error_message(), HasSubstr("another stream took the request over"));
  EXPECT_EQ(left.Answer(), "");
  EXPECT_TRUE(newer->Finish().ok());
  EXPECT_EQ(held + rest, AnswerOf(kPieces));
}

TEST(ResumedStreamTest, WhatCannotBeTakenUpSaysWhatToDo) {
  ApiRig rig;
  v1::GenerateRequest bare;
  bare.set_request_id("r1");
  const Heard unknown = ListenToTheRest(rig, bare, "");
  EXPECT_EQ(unknown.status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(unknown.status.error_message(),
              HasSubstr("resume it with its messages and seed, and it is run again"));

  v1::GenerateRequest without_seed = KeptQuestion();
  without_seed.clear_seed();
  const Heard drawn = ListenToTheRest(rig, without_seed, "0000 ");
  EXPECT_EQ(drawn.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(drawn.status.error_message(), HasSubstr("seed is missing"));
  EXPECT_TRUE(ListenToTheRest(rig, without_seed, "").status.ok()) << "nothing is held";
}

TEST(ResumedStreamTest, DecisionsThatWereStreamedLeadToTheSameAnswer) {
  const auto one_is_quick = [](AgentId agent) {
    FakeSpeech speech = ThirdOfIndex(agent);
    if (IndexOf(agent) > 0) speech.thinking.resize(50, "hm ");
    return speech;
  };
  ApiRig first({}, one_is_quick), second({}, one_is_quick);
  first.worker().HoldAfter(20);  // Agent 0 is done by then, the others are not.
  v1::GenerateRequest request = Ask(v1::MODE_CONTEMPLATING, 4);
  request.set_request_id("r3");
  request.mutable_budget()->mutable_deadline()->set_seconds(600);
  const Heard whole = ListenPastTheDeadline(first, request, /*agent=*/0, 20);
  ASSERT_TRUE(whole.status.ok()) << whole.status.error_message();
  const v1::Admitted& admitted = whole.events.front().admitted();
  v1::Replay& replay = *request.mutable_replay();
  replay.set_seed(admitted.seed());
  replay.set_time_of_day(admitted.time_of_day());
  replay.set_fingerprint(admitted.fingerprint());
  replay.set_decision_version(admitted.decision_version());
  for (const Event& event : whole.events) {
    if (event.has_decision()) *replay.add_decisions() = event.decision();
  }

  const Heard rest = ListenToTheRest(second, request, "Answ");

  ASSERT_TRUE(rest.status.ok()) << rest.status.error_message();
  EXPECT_EQ(rest.Answer(), "er: 0");
  EXPECT_EQ(rest.completed().receipt().result_hash(), whole.completed().receipt().result_hash());
}

TEST(ResumedStreamTest, TheUnaryFormTakesUpToo) {
  ApiRig rig({}, SpeechOf(kPieces));
  rig.worker().HoldAfter(4);
  AskAndBreak(rig, KeptQuestion(), 20);
  ASSERT_TRUE(AwaitMetric(rig, "conclave_requests_kept 1"));
  rig.worker().Release();
  grpc::ClientContext context;
  v1::GenerateOnceRequest once;
  *once.mutable_request() = Resume(KeptQuestion(), "");
  v1::GenerateOnceResponse response;

  const grpc::Status status = rig.stub().GenerateOnce(&context, once, &response);

  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.completed().answer(), AnswerOf(kPieces));
  EXPECT_EQ(rig.worker().openings().size(), 1u);
}

TEST(AnswerGateTest, WithholdsWhatIsHeldHoweverTheTextComes) {
  const std::string text =
      "a\u20ac"
      "bcd";
  const v1::Resume held = Resume({}, text.substr(0, 4)).resume();
  for (size_t piece = 1; piece <= text.size(); ++piece) {
    AnswerGate gate({.bytes = held.answer_bytes(), .sha256 = held.answer_sha256()});
    EXPECT_FALSE(gate.Close().ok());
    std::string passed;
    for (size_t at = 0; at < text.size(); at += piece) {
      const auto more = gate.Pass(text.substr(at, piece));
      ASSERT_TRUE(more.ok()) << more.status();
      passed += *more;
    }
    EXPECT_EQ(passed, "bcd");
    EXPECT_TRUE(gate.Close().ok());
  }
}

TEST(AnswerGateTest, HalfACharacterIsNeverSent) {
  const v1::Resume held = Resume({}, "a\xe2").resume();
  AnswerGate gate({.bytes = held.answer_bytes(), .sha256 = held.answer_sha256()});
  EXPECT_EQ(gate.Pass("a\u20ac").status().code(), absl::StatusCode::kAborted);
}

}  // namespace
}  // namespace conclave::router
