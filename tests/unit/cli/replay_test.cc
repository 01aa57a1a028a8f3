#include "cli/replay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/exit_code.h"
#include "cli/record.h"
#include "tests/unit/cli/events.h"
#include "tests/unit/cli/fake_router.h"

namespace conclave::cli {
namespace {

using testing::HasSubstr;

constexpr uint64_t kSeed = 77;

v1::GenerateResponse AdmittedAgain() {
  v1::GenerateResponse event = Admitted(1);
  event.mutable_admitted()->set_seed(kSeed);
  event.mutable_admitted()->set_fingerprint("f00d");
  return event;
}

v1::GenerateResponse Said(const std::string& text, int id) {
  v1::GenerateResponse event = Thinking(0, text);
  event.mutable_agent_delta()->add_tokens()->set_id(id);
  return event;
}

v1::GenerateResponse Ended(const std::string& answer) {
  v1::GenerateResponse event = Completed(answer);
  event.mutable_completed()->mutable_receipt()->set_result_hash("beef");
  return event;
}

class ReplayTest : public testing::Test {
 protected:
  ReplayTest() {
    record_.mutable_request()->add_messages()->add_parts()->set_text("1 + 2?");
    record_.mutable_request()->set_request_id("mine");
    record_.mutable_request()->set_seed(kSeed);
    record_.mutable_receipt()->set_model("demo");
    record_.mutable_receipt()->set_seed(kSeed);
    record_.mutable_receipt()->set_fingerprint("f00d");
    record_.mutable_receipt()->set_result_hash("beef");
    record_.mutable_receipt()->add_decisions()->set_number(1);
    record_.set_answer("3");
    v1::AgentRecord& agent = *record_.add_agents();
    agent.set_thinking("one two");
    agent.add_tokens(5);
    agent.add_tokens(6);
  }

  // Replays the record by a router that says this.
  int Run(std::vector<v1::GenerateResponse> events, grpc::Status end = grpc::Status::OK) {
    options_.file = testing::TempDir() + "/record-" + std::to_string(getpid()) + ".json";
    std::ofstream(options_.file) << RecordToJson(record_);
    FakeRouter router(
        {.events = std::move(events), .end = std::move(end), .render = {}, .models = {}});
    options_.router = router.address();
    SilentPrinter printer;
    testing::internal::CaptureStderr();
    const int code = Replay(options_, printer, out_);
    errors_ = testing::internal::GetCapturedStderr();
    request_ = router.request();
    return code;
  }

  v1::Record record_;
  ReplayOptions options_;
  std::ostringstream out_;
  std::string errors_;
  v1::GenerateRequest request_;
};

TEST_F(ReplayTest, TheSameBytesAreSaidToBeTheSame) {
  const int code =
      Run({AdmittedAgain(), Said("one ", 5), Said("two", 6), AnswerText("3"), Ended("3")});

  EXPECT_EQ(code, kExitOk) << errors_;
  EXPECT_THAT(out_.str(), HasSubstr("same bytes: "));
  EXPECT_EQ(request_.replay().seed(), kSeed);
  EXPECT_EQ(request_.replay().fingerprint(), "f00d");
  EXPECT_EQ(request_.replay().result_hash(), "beef");
  EXPECT_EQ(request_.replay().decisions_size(), 1);
  EXPECT_EQ(request_.model(), "demo");
  EXPECT_EQ(request_.messages(0).parts(0).text(), "1 + 2?");
  EXPECT_NE(request_.request_id(), "mine") << "the first one may still be held";
}

TEST_F(ReplayTest, TheFirstTokenThatDiffersIsNamed) {
  const grpc::Status differs(grpc::StatusCode::ABORTED, "the replay differs: its result_hash is");

  const int code = Run({AdmittedAgain(), Said("one ", 5), Said("too", 9)}, differs);

  EXPECT_EQ(code, kExitDiffers) << errors_;
  EXPECT_THAT(out_.str(), HasSubstr("it differs first at token 2 of agent 1\n"
                                    "  recorded  one two\n"
                                    "  now       one too\n"
                                    "  the router says: the replay differs"));
}

TEST_F(ReplayTest, WhatDiffersIsToldToProgramsToo) {
  options_.json = true;

  const int code =
      Run({AdmittedAgain(), Said("one ", 5), Said("too", 9), AnswerText("3"), Ended("3")});

  EXPECT_EQ(code, kExitDiffers);
  const auto json = nlohmann::json::parse(out_.str());
  EXPECT_EQ(json["same"], false);
  EXPECT_EQ(json["agent"], 0);
  EXPECT_EQ(json["token"], 2);
  EXPECT_EQ(json["now"], "one too");
}

TEST_F(ReplayTest, AnotherHashDiffersEvenWhereNoTextDoes) {
  record_.mutable_receipt()->set_result_hash("other");

  const int code =
      Run({AdmittedAgain(), Said("one two", 5), Said("", 6), AnswerText("3"), Ended("3")});

  EXPECT_EQ(code, kExitDiffers);
  EXPECT_THAT(out_.str(), HasSubstr("it differs, in nothing that the record holds"));
}

// Nothing ran, so nothing differs.
TEST_F(ReplayTest, ARequestThatIsNotTakenIsAFailure) {
  const int code = Run({}, {grpc::StatusCode::ABORTED, "no group of demo has fingerprint f00d"});

  EXPECT_EQ(code, kExitFailed);
  EXPECT_EQ(out_.str(), "");
  EXPECT_THAT(errors_, HasSubstr("no group of demo has fingerprint f00d"));
}

TEST_F(ReplayTest, AReceiptWithoutItsQuestionSaysWhatToDo) {
  record_.clear_request();

  EXPECT_EQ(Run({}), kExitUsage);

  EXPECT_THAT(errors_, HasSubstr("conclave ask --replay FILE"));
}

TEST_F(ReplayTest, AConfigIsForFlightsOnly) {
  options_.config = "worker.yaml";

  EXPECT_EQ(Run({}), kExitUsage);

  EXPECT_THAT(errors_, HasSubstr("--config and --set are for a flight"));
}

}  // namespace
}  // namespace conclave::cli
