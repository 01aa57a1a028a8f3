#include "cli/options.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "cli/record.h"

namespace conclave::cli {
namespace {

AskOptions Question() {
  AskOptions options;
  options.question = "What is 2 + 2?";
  return options;
}

TEST(AskOptionsTest, UnsetNumbersStayUnsetSoThatTheServersDefaultsHold) {
  const auto request = MakeRequest(Question());

  ASSERT_TRUE(request.ok());
  EXPECT_FALSE(request->contemplation().has_max_agents());
  EXPECT_FALSE(request->has_seed());
  EXPECT_FALSE(request->sampling().has_temperature());
  EXPECT_EQ(request->mode(), v1::MODE_CONTEMPLATING);
  EXPECT_EQ(request->messages(0).parts(0).text(), "What is 2 + 2?");
}

TEST(AskOptionsTest, GivenNumbersReachTheRequest) {
  AskOptions options = Question();
  options.agents = 16;
  options.aggregator_model = "big";
  options.agent_models = {"m", "big"};
  options.deadline_seconds = 1.5;
  options.temperature = 0;
  options.seed = 0;

  const auto request = MakeRequest(options);

  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->contemplation().max_agents(), 16);
  EXPECT_EQ(request->contemplation().aggregator_model(), "big");
  EXPECT_THAT(request->contemplation().agent_models(), testing::ElementsAre("m", "big"));
  EXPECT_EQ(request->budget().deadline().seconds(), 1);
  EXPECT_EQ(request->budget().deadline().nanos(), 500'000'000);
  EXPECT_TRUE(request->sampling().has_temperature());
  EXPECT_TRUE(request->has_seed());
}

TEST(AskOptionsTest, StopsTheMinimumAndLogprobsReachTheRequest) {
  AskOptions options = Question();
  EXPECT_FALSE(MakeRequest(options)->has_top_logprobs());
  options.stop = {"END", "\n\n"};
  options.stop_tokens = {0, 7};
  options.min_tokens = 12;
  options.logprobs = 0;

  const auto request = MakeRequest(options);

  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->stop(1), "\n\n");
  EXPECT_EQ(request->stop_tokens(0), 0);
  EXPECT_EQ(request->stop_tokens(1), 7);
  EXPECT_EQ(request->budget().min_tokens(), 12);
  EXPECT_TRUE(request->has_top_logprobs());
}

TEST(AskOptionsTest, AStopTextThatIsNoUtf8IsRefusedBeforeItIsSent) {
  AskOptions options = Question();
  options.stop = {"\xff"};
  EXPECT_EQ(MakeRequest(options).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(AskOptionsTest, WhetherItThinksMayBeLeftToTheModel) {
  AskOptions options = Question();
  options.mode = "auto";
  const auto request = MakeRequest(options);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->mode(), v1::MODE_UNSPECIFIED);
  EXPECT_FALSE(request->has_contemplation());
}

TEST(AskOptionsTest, AnUnknownWordIsRefusedWithTheOnesThatExist) {
  AskOptions options = Question();
  options.mode = "deep";

  const absl::Status status = MakeRequest(options).status();

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.ToString().find("contemplating"), std::string::npos);
}

TEST(AskOptionsTest, AWeightedVoteAndABarReachTheRequest) {
  AskOptions options = Question();
  options.aggregation = "weighted-vote";
  options.vote_weight = "top20-mean";
  options.confidence_bar = 6.5;
  options.confidence_window = 64;

  const auto request = MakeRequest(options);

  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->contemplation().aggregation(), v1::AGGREGATION_WEIGHTED_VOTE);
  EXPECT_EQ(request->contemplation().vote_weight(), v1::VOTE_WEIGHT_TOP20_MEAN);
  EXPECT_EQ(request->contemplation().confidence_bar(), 6.5);
  EXPECT_EQ(request->contemplation().confidence_window(), 64);
  options.vote_weight = "loudness";
  EXPECT_EQ(MakeRequest(options).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(AskOptionsTest, AStrategyAndWhatBelongsToItReachTheRequest) {
  AskOptions options = Question();
  options.strategy = "refine";
  options.effort = "high";
  options.wave = 4;
  options.rounds = 2;
  options.drafts = 3;
  options.roles = {"Be brief.", "Check twice."};
  options.temperatures = {0.5, 1};

  const auto request = MakeRequest(options);

  ASSERT_TRUE(request.ok()) << request.status();
  const v1::Contemplation& how = request->contemplation();
  EXPECT_EQ(how.strategy(), v1::STRATEGY_REFINE);
  EXPECT_EQ(how.effort(), v1::EFFORT_HIGH);
  EXPECT_EQ(how.wave(), 4);
  EXPECT_EQ(how.rounds(), 2);
  EXPECT_EQ(how.drafts(), 3);
  EXPECT_EQ(how.roles(1), "Check twice.");
  EXPECT_EQ(how.temperatures(0), 0.5f);
}

TEST(AskOptionsTest, ACheckerAndProbesReachTheRequest) {
  AskOptions options = Question();
  options.stop_rule = "accepted";
  options.aggregation = "check";
  options.check_value = "22";
  options.check_numbers = {2, -3};
  options.probe_every = 64;
  options.probe_agree = 2;

  const auto request = MakeRequest(options);

  ASSERT_TRUE(request.ok()) << request.status();
  const v1::Contemplation& how = request->contemplation();
  EXPECT_EQ(how.stop_rule(), v1::STOP_RULE_ACCEPTED);
  EXPECT_EQ(how.aggregation(), v1::AGGREGATION_CHECK);
  EXPECT_EQ(how.checker().arithmetic().value(), "22");
  EXPECT_EQ(how.checker().arithmetic().numbers(1), -3);
  EXPECT_EQ(how.probes().every(), 64);
  EXPECT_EQ(how.probes().agree(), 2);
}

TEST(AskOptionsTest, ASchemaIsReadFromItsFile) {
  const std::string path = testing::TempDir() + "/schema.json";
  std::ofstream(path) << R"({"type": "integer"})";
  AskOptions options = Question();
  options.check_schema_file = path;
  EXPECT_EQ(MakeRequest(options)->contemplation().checker().json_schema(),
            R"({"type": "integer"})");

  options.check_schema_file = "/nowhere.json";
  EXPECT_EQ(MakeRequest(options).status().code(), absl::StatusCode::kNotFound);
}

TEST(AskOptionsTest, HalfACheckerOrTwoOrProbesWithoutAnIntervalAreRefused) {
  AskOptions numbers = Question();
  numbers.check_numbers = {1};
  AskOptions two = Question();
  two.check_value = "22";
  two.check_regex = "2+";
  AskOptions probes = Question();
  probes.probe_agree = 2;

  for (const AskOptions& options : {numbers, two, probes}) {
    EXPECT_EQ(MakeRequest(options).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(AskOptionsTest, AnAnswerKeyCarriesItsArgument) {
  AskOptions options = Question();
  options.answer_key = "regex:result: (\\d+)";

  const auto request = MakeRequest(options);

  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->answer_key().kind(), v1::AnswerKey::KIND_REGEX);
  EXPECT_EQ(request->answer_key().argument(), "result: (\\d+)");
}

TEST(AskOptionsTest, AReceiptBecomesAReplayOfItself) {
  v1::Receipt receipt;
  receipt.set_seed(0xfedcba9876543210u);
  receipt.set_fingerprint("abc");
  receipt.set_result_hash("def");
  receipt.add_decisions()->set_kind(v1::Decision::KIND_DEADLINE);
  const std::string path = testing::TempDir() + "/receipt.json";
  v1::Record record;
  *record.mutable_receipt() = receipt;
  std::ofstream(path) << RecordToJson(record);
  AskOptions options = Question();
  options.replay_file = path;

  const auto request = MakeRequest(options);

  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->replay().seed(), receipt.seed());
  EXPECT_EQ(request->replay().fingerprint(), "abc");
  EXPECT_EQ(request->replay().result_hash(), "def");
  EXPECT_EQ(request->replay().decisions(0).kind(), v1::Decision::KIND_DEADLINE);
}

TEST(AskOptionsTest, AFileThatIsNoReceiptIsRefused) {
  AskOptions options = Question();
  options.replay_file = "/nowhere/receipt.json";

  EXPECT_EQ(MakeRequest(options).status().code(), absl::StatusCode::kNotFound);
}

TEST(AskOptionsTest, OptionsThatTheModeHasNoUseForAreRefused) {
  AskOptions options = Question();
  options.mode = "thinking";
  options.agents = 8;

  const absl::Status status = MakeRequest(options).status();

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.ToString().find("--agents is for --mode contemplating"), std::string::npos);
}

TEST(AskOptionsTest, ADeadlineThatNoDurationHoldsIsRefused) {
  for (const double seconds : {0.0, -1.0, 1e30, std::nan(""), HUGE_VAL}) {
    AskOptions options = Question();
    options.deadline_seconds = seconds;
    EXPECT_EQ(MakeRequest(options).status().code(), absl::StatusCode::kInvalidArgument) << seconds;
    options.deadline_seconds.reset();
    options.patience_seconds = seconds;
    EXPECT_EQ(MakeRequest(options).status().code(), absl::StatusCode::kInvalidArgument) << seconds;
  }
}

TEST(AskOptionsTest, ThePatienceWithStragglersReachesTheRequest) {
  AskOptions options = Question();
  options.patience_seconds = 0.25;

  const auto request = MakeRequest(options);

  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->contemplation().patience().nanos(), 250'000'000);
}

TEST(AskOptionsTest, ARecordHoldsTokensEvenOfAQuietRequest) {
  AskOptions options = Question();
  options.quiet = true;
  EXPECT_EQ(MakeRequest(options)->include_size(), 0);

  options.receipt_file = "bill.json";

  EXPECT_EQ(MakeRequest(options)->include_size(), 4);
  EXPECT_EQ(MakeRequest(options)->include(0), v1::INCLUDE_TOKENS);
}

TEST(AskOptionsTest, AQuestionThatIsNoUtf8IsRefusedBeforeItIsSent) {
  AskOptions options = Question();
  options.question = "caf\xe9";

  EXPECT_EQ(MakeRequest(options).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ReadKeyTest, TheFirstLineIsTheKeyWhateverItsLineEnd) {
  const std::string path = testing::TempDir() + "/key";
  for (const char* text : {"secret", "secret\n", "secret\r\n", "secret\nmore\n"}) {
    std::ofstream(path) << text;
    const auto key = ReadKey(path);
    ASSERT_TRUE(key.ok()) << text;
    EXPECT_EQ(*key, "secret");
  }
}

TEST(ReadKeyTest, WhatCannotBeAKeyIsRefused) {
  const std::string path = testing::TempDir() + "/key";
  std::ofstream(path) << "";
  EXPECT_EQ(ReadKey(path).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReadKey("/nowhere/key").status().code(), absl::StatusCode::kNotFound);
  std::ofstream(path) << "a\x01z\n";
  EXPECT_EQ(ReadKey(path).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(CheckRouterTest, AnAddressNeedsAPort) {
  EXPECT_TRUE(CheckRouter("127.0.0.1:9100").ok());
  EXPECT_TRUE(CheckRouter("unix:router.socket").ok());
  EXPECT_TRUE(CheckRouter("a:1,b:2").ok());
  EXPECT_EQ(CheckRouter("a:1,b").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CheckRouter("a:1,").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CheckRouter("9100").code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace conclave::cli
