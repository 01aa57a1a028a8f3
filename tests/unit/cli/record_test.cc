#include "cli/record.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "tests/unit/cli/events.h"

namespace conclave::cli {
namespace {

using google::protobuf::util::MessageDifferencer;
using testing::HasSubstr;

v1::AgentRecord Agent(uint32_t id, const std::string& thinking, const std::vector<int>& tokens) {
  v1::AgentRecord agent;
  agent.set_agent(id);
  agent.set_thinking(thinking);
  agent.mutable_tokens()->Add(tokens.begin(), tokens.end());
  return agent;
}

// Two agents of which the second was cut after two tokens.
v1::Record Recorded() {
  v1::Record record;
  record.mutable_request()->add_messages()->add_parts()->set_text("1 + 2? \"\\\n");
  record.mutable_receipt()->set_seed(0xfedcba9876543210u);
  record.mutable_receipt()->set_fingerprint("f00d");
  record.mutable_receipt()->set_result_hash("beef");
  record.set_answer("3");
  *record.add_agents() = Agent(0, "one and two are three", {5, 6, 7});
  *record.add_agents() = Agent(1, "one and", {5, 6});
  return record;
}

v1::GenerateResponse Said(uint32_t agent, const std::string& thinking,
                          const std::vector<int>& tokens) {
  v1::GenerateResponse event = Thinking(agent, thinking, static_cast<int>(tokens.size()));
  for (const int id : tokens) event.mutable_agent_delta()->add_tokens()->set_id(id);
  return event;
}

Transcript Heard(const std::vector<v1::GenerateResponse>& events) {
  Transcript transcript;
  for (const v1::GenerateResponse& event : events) transcript.On(event);
  return transcript;
}

TEST(RecordTest, ARecordComesBackFromItsFileOneAgentALine) {
  const std::string json = RecordToJson(Recorded());

  const auto read = RecordFromJson(json);

  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(MessageDifferencer::Equals(*read, Recorded()));
  EXPECT_THAT(json, HasSubstr("\n  {\"agent\":1,\"thinking\":\"one and\",\"tokens\":[5,6]}\n"));
}

TEST(RecordTest, ARecordWithoutAgentsComesBackToo) {
  v1::Record record = Recorded();
  record.clear_agents();
  record.clear_answer();

  const auto read = RecordFromJson(RecordToJson(record));

  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(MessageDifferencer::Equals(*read, record));
}

TEST(RecordTest, AReceiptAloneIsARecordWithoutAQuestion) {
  const auto read = RecordFromJson(R"({"seed": "7", "fingerprint": "f00d"})");

  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_FALSE(read->has_request());
  EXPECT_EQ(read->receipt().seed(), 7u);
}

TEST(RecordTest, WhatIsNoRecordIsRefused) {
  for (const char* text :
       {"", "{}", "[]", "not JSON", R"({"seed": "x"})", R"({"receipt": {}, "future": 1})",
        R"({"request": {}})", R"({"fingerprint": "f00d", "future": 1})"}) {
    EXPECT_EQ(RecordFromJson(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(RecordTest, AFileBeyondTheLimitIsRefusedByName) {
  const std::string path = CONCLAVE_SOURCE_DIR "/LICENSE";

  EXPECT_EQ(ReadFile("/nowhere/at-all").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReadFile(CONCLAVE_SOURCE_DIR).status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(ReadFile(path, 100).status().ToString(),
              HasSubstr(path + " has more than 100 bytes"));
  EXPECT_GT(ReadFile(path)->size(), 100u);
}

TEST(TranscriptTest, TokensBehindACutAreNotKept) {
  v1::Receipt receipt;
  v1::AgentUsage& usage = *receipt.add_agents();
  usage.set_agent(1);
  usage.set_kept(2);

  const v1::Record record = Heard({Said(0, "a", {5}), Said(1, "x", {5, 6}), Said(0, "b", {6}),
                                   Said(1, "y", {7}), Completed("3")})
                                .ToRecord(Recorded().request(), receipt);

  ASSERT_EQ(record.agents_size(), 2);
  EXPECT_THAT(record.agents(0).tokens(), testing::ElementsAre(5, 6));
  EXPECT_EQ(record.agents(0).thinking(), "ab");
  EXPECT_THAT(record.agents(1).tokens(), testing::ElementsAre(5, 6));
  EXPECT_EQ(record.answer(), "3");
  EXPECT_EQ(record.request().messages_size(), 1);
}

TEST(FirstDifferenceTest, EqualRunsHaveNone) {
  EXPECT_FALSE(FirstDifference(Recorded(), Heard({Said(0, "one and two are three", {5, 6, 7}),
                                                  Said(1, "one and", {5, 6}), Completed("3")})));
}

TEST(FirstDifferenceTest, TheEarliestTokenIsNamedWithBothTexts) {
  const auto found = FirstDifference(
      Recorded(), Heard({Said(0, "one and two are four", {5, 6, 8}), Said(1, "one or", {5, 9})}));

  ASSERT_TRUE(found);
  EXPECT_EQ(found->agent, 1u);
  EXPECT_EQ(found->token, 2);
  EXPECT_EQ(found->recorded, "one and");
  EXPECT_EQ(found->now, "one or");
}

TEST(FirstDifferenceTest, AnAgentThatIsNotAtItsEndYetDoesNotDiffer) {
  const std::vector<v1::GenerateResponse> begun = {Said(0, "one", {5})};
  std::vector<v1::GenerateResponse> ended = begun;
  ended.push_back(Finished(0, "one", 1));

  EXPECT_FALSE(FirstDifference(Recorded(), Heard(begun)));
  const auto found = FirstDifference(Recorded(), Heard(ended));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->token, 2);
}

TEST(FirstDifferenceTest, AnAgentThatGoesOnWhereItHadEndedDiffers) {
  const auto found =
      FirstDifference(Recorded(), Heard({Said(0, "one and two are three!", {5, 6, 7, 8})}));

  ASSERT_TRUE(found);
  EXPECT_EQ(found->token, 4);
}

TEST(FirstDifferenceTest, AnAgentThatWasCutMayHaveRunOnBehindItsCut) {
  v1::Record record = Recorded();
  record.mutable_receipt()->add_agents()->set_cut(true);

  EXPECT_FALSE(FirstDifference(record, Heard({Said(0, "one and two are three!", {5, 6, 7, 8})})));
}

TEST(FirstDifferenceTest, TheAnswerAloneMayDiffer) {
  const auto found =
      FirstDifference(Recorded(), Heard({Said(0, "one and two are three", {5, 6, 7}),
                                         Said(1, "one and", {5, 6}), Completed("4")}));

  ASSERT_TRUE(found);
  EXPECT_EQ(found->token, 0);
  EXPECT_EQ(found->recorded, "3");
  EXPECT_EQ(found->now, "4");
}

TEST(FirstDifferenceTest, LongTextsAreShownAroundTheDifferenceAndCharactersStayWhole) {
  v1::Record record = Recorded();
  std::string before;
  for (int i = 0; i < 40; ++i) before += "\xc3\xa4";
  record.mutable_agents(0)->set_thinking(before + "x" + before);

  const auto found = FirstDifference(record, Heard({Said(0, before + "y\x1b[2J" + before, {4})}));

  ASSERT_TRUE(found);
  EXPECT_THAT(found->recorded, testing::StartsWith("...\xc3\xa4"));
  EXPECT_THAT(found->recorded, testing::EndsWith("\xc3\xa4..."));
  EXPECT_THAT(found->now, HasSubstr("y?[2J"));
}

}  // namespace
}  // namespace conclave::cli
