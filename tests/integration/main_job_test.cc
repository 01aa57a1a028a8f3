// The real programs, end to end: one router, one worker group of two tensor-parallel ranks, the
// client.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/integration/cluster.h"

namespace conclave {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr char kQuestion[] =
    "Tom has 12 apples and buys 3 boxes with 15 apples each. How many apples does Tom have now?";
constexpr absl::Duration kPatience = absl::Seconds(120);

class MainJobTest : public testing::Test {
 protected:
  void SetUp() override {
    cluster_.StartWorker();
    cluster_.StartRouter();
    cluster_.AwaitServed();
  }

  struct Answer {
    int exit_code = 0;
    std::string output;
    json completed;
  };

  // Asks as JSON and waits for the end.
  Answer Ask(std::vector<std::string> arguments) {
    const std::string log = cluster_.folder() + "/ask" + std::to_string(++asked_) + ".log";
    arguments.insert(arguments.begin(),
                     {"ask", kQuestion, "--router", cluster_.RouterAddress(), "--json"});
    Program client("conclave", arguments, log);
    Answer answer;
    answer.exit_code = client.Wait(kPatience);
    answer.output = FileText(log);
    const size_t last = answer.output.rfind("{\"sequence\"");
    if (last != std::string::npos) {
      const json event = json::parse(answer.output.substr(last), nullptr, false);
      if (event.is_object() && event.contains("completed")) answer.completed = event["completed"];
    }
    return answer;
  }

  Cluster cluster_;
  int asked_ = 0;
};

int64_t Number(const json& value) { return std::stoll(value.get<std::string>()); }

TEST_F(MainJobTest, EightAgentsAnswerTogetherAndComputeTheirPromptOnce) {
  const Answer answer = Ask({"--agents", "8", "--seed", "7"});

  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_EQ(answer.completed["answer"], "57");
  EXPECT_EQ(answer.completed["method"], "AGGREGATION_VOTE");
  const json& prompt = answer.completed["receipt"]["prompt"];
  EXPECT_EQ(Number(prompt["computed"]) + Number(prompt["shared"]), Number(prompt["total"]));
  EXPECT_LE(static_cast<double>(Number(prompt["computed"])),
            1.05 * static_cast<double>(Number(prompt["first"])));
}

TEST_F(MainJobTest, AReceiptReplaysToTheSameBytes) {
  const std::string receipt = cluster_.folder() + "/receipt.json";
  const Answer first = Ask({"--agents", "4", "--receipt", receipt});
  ASSERT_EQ(first.exit_code, 0) << first.output;

  const Answer again = Ask({"--agents", "4", "--replay", receipt});

  ASSERT_EQ(again.exit_code, 0) << again.output;
  EXPECT_EQ(again.completed["answer"], first.completed["answer"]);
  EXPECT_EQ(again.completed["receipt"]["result_hash"], first.completed["receipt"]["result_hash"]);
}

TEST_F(MainJobTest, AModelsSynthesisIsStreamedWhenItIsAskedFor) {
  const Answer answer = Ask({"--agents", "3", "--aggregation", "synthesise"});

  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_EQ(answer.completed["method"], "AGGREGATION_SYNTHESISE");
  EXPECT_EQ(answer.completed["answer"], "57");
  EXPECT_THAT(answer.output, HasSubstr("aggregation_started"));
}

TEST_F(MainJobTest, OneAgentThinksAndStreamsItsAnswer) {
  const Answer answer = Ask({"--mode", "thinking"});

  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_EQ(answer.completed["answer"], "57");
}

TEST_F(MainJobTest, AGroupWhoseRankIsKilledComesBackAndServesAgain) {
  const Answer before = Ask({"--agents", "2", "--seed", "3"});
  ASSERT_EQ(before.exit_code, 0) << before.output;
  const std::vector<pid_t> ranks = cluster_.Ranks();
  ASSERT_EQ(ranks.size(), 2u);

  kill(ranks[1], SIGKILL);

  EXPECT_TRUE(Eventually(kPatience, [&] {
    return cluster_.worker().Output().find("epoch 2 is ready") != std::string::npos;
  })) << cluster_.worker().Output();
  EXPECT_THAT(cluster_.worker().Output(), HasSubstr("was killed by signal 9"));
  const Answer after = Ask({"--agents", "2", "--seed", "3"});
  ASSERT_EQ(after.exit_code, 0) << after.output;
  EXPECT_EQ(after.completed["receipt"]["result_hash"], before.completed["receipt"]["result_hash"]);
}

TEST_F(MainJobTest, ATermSignalEndsBothProgramsInOrder) {
  cluster_.router().Signal(SIGTERM);
  cluster_.worker().Signal(SIGTERM);

  EXPECT_EQ(cluster_.router().Wait(kPatience), 0) << cluster_.router().Output();
  EXPECT_EQ(cluster_.worker().Wait(kPatience), 0) << cluster_.worker().Output();
}

}  // namespace
}  // namespace conclave
