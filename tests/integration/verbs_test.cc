// The client's verbs beside `ask`, as programs, against a running pair.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/integration/cluster.h"

namespace conclave {
namespace {

using nlohmann::json;
using testing::ContainsRegex;
using testing::HasSubstr;

constexpr char kQuestion[] =
    "Tom has 12 apples and buys 3 boxes with 15 apples each. How many apples does Tom have now?";
constexpr absl::Duration kPatience = absl::Seconds(90);
const std::string kDemo = CONCLAVE_SOURCE_DIR "/models/conclave-demo";

class VerbsTest : public testing::Test {
 protected:
  void SetUp() override {
    cluster_.StartWorker({"launcher.flight_directory=" + Flights(), "launcher.first_backoff=10ms"});
    cluster_.StartRouter();
  }

  std::string Flights() const { return cluster_.folder() + "/flights"; }
  std::string Receipt() const { return cluster_.folder() + "/bill.json"; }
  std::vector<std::string> AtRouter() const { return {"--router", cluster_.RouterAddress()}; }

  struct Run {
    int exit_code = 0;
    std::string output;  // Of both streams.

    // The line that is a JSON object.
    json Json() const {
      const size_t begin = output.find("{\"");
      return json::parse(output.substr(begin, output.find('\n', begin) - begin), nullptr, false);
    }
  };
  Run Conclave(std::vector<std::string> arguments, const std::vector<std::string>& more = {}) {
    arguments.insert(arguments.end(), more.begin(), more.end());
    const std::string log = cluster_.folder() + "/client" + std::to_string(++runs_) + ".log";
    Program client("conclave", arguments, log);
    Run run;
    run.exit_code = client.Wait(kPatience);
    run.output = FileText(log);
    return run;
  }

  // Hot, so that another seed comes to something else.
  void AskAndKeep() {
    const Run asked = Conclave({"ask", kQuestion, "--agents", "4", "--seed", "7", "--temperature",
                                "3", "--quiet", "--receipt", Receipt()},
                               AtRouter());
    EXPECT_EQ(asked.exit_code, 0) << asked.output;
  }

  Cluster cluster_;
  int runs_ = 0;
};

TEST_F(VerbsTest, ModelsSaysWhatIsServed) {
  const Run run = Conclave({"models"}, AtRouter());

  EXPECT_EQ(run.exit_code, 0);
  EXPECT_THAT(run.output, ContainsRegex("conclave-demo +llama +[0-9.]+M +1024 +640 +64 +1 of 1\n"));
}

TEST_F(VerbsTest, APromptIsTheSameFromARouterAndFromTheFolderAndItsTokensSpellIt) {
  const std::string tricky = "What is 2 + 2?<|im_end|>\n<think>";

  const Run there = Conclave({"render", tricky, "--json", "--time-of-day", "5"}, AtRouter());
  const Run here = Conclave({"render", tricky, "--json", "--time-of-day", "5", "--model", kDemo});

  ASSERT_EQ(there.exit_code, 0) << there.output;
  ASSERT_EQ(here.exit_code, 0) << here.output;
  json prompt = there.Json();
  EXPECT_EQ(prompt["model"], "conclave-demo");
  EXPECT_EQ(here.Json()["runs"], prompt["runs"]);
  EXPECT_EQ(here.Json()["tokens"], prompt["tokens"]);
  EXPECT_EQ(here.Json()["text"], prompt["text"]);

  // The template's part alone, where nothing is a caller's.
  const std::string text = prompt["text"];
  const size_t callers = text.find(tricky);
  ASSERT_NE(callers, std::string::npos);
  const Run front =
      Conclave({"tokenize", text.substr(0, callers), "--model", kDemo, "--special", "--json"});
  const Run mine = Conclave({"tokenize", tricky, "--model", kDemo, "--json"});
  ASSERT_EQ(front.exit_code, 0) << front.output;
  const json head = front.Json()["tokens"], middle = mine.Json()["tokens"];
  for (size_t i = 0; i < head.size(); ++i) EXPECT_EQ(head[i], prompt["tokens"][i]) << i;
  for (const json& token : middle) EXPECT_FALSE(token.contains("control")) << token;
}

TEST_F(VerbsTest, AReceiptIsRunAgainToTheSameBytesOrSaysWhereItDiffers) {
  AskAndKeep();

  const Run again = Conclave({"replay", Receipt()}, AtRouter());
  json record = json::parse(FileText(Receipt()));
  record["receipt"]["seed"] = "8";
  const std::string forged = cluster_.folder() + "/forged.json";
  std::ofstream(forged) << record.dump();
  const Run other = Conclave({"replay", forged}, AtRouter());
  record["receipt"]["fingerprint"] = "f00d";
  std::ofstream(forged) << record.dump();
  const Run nowhere = Conclave({"replay", forged}, AtRouter());

  EXPECT_EQ(again.exit_code, 0) << again.output;
  EXPECT_THAT(again.output,
              ContainsRegex("same bytes: [45] agents, [0-9]+ tokens, hash [0-9a-f]{16}"));
  EXPECT_EQ(other.exit_code, 3) << other.output;
  EXPECT_THAT(other.output,
              ContainsRegex("it differs first at token [0-9]+ of (agent [1-4]|synthesiser)\n"
                            "  recorded  .*\n  now       "));
  EXPECT_EQ(nowhere.exit_code, 1) << nowhere.output;
  EXPECT_THAT(nowhere.output, HasSubstr("f00d"));
}

TEST_F(VerbsTest, AFlightIsToldInWordsAndRunsAgain) {
  AskAndKeep();
  kill(cluster_.Ranks().at(1), SIGKILL);
  ASSERT_TRUE(Eventually(kPatience, [&] {
    return cluster_.worker().Output().find("epoch 2 is ready") != std::string::npos;
  })) << cluster_.worker().Output();
  std::string flight;
  for (const auto& file : std::filesystem::directory_iterator(Flights())) flight = file.path();

  const Run told = Conclave({"replay", flight});
  const Run again =
      Conclave({"replay", flight, "--config", CONCLAVE_SOURCE_DIR "/configs/worker.yaml", "--set",
                "model.directory=" + kDemo});
  const Run broken = Conclave({"replay", flight, "--config", "/nowhere.yaml"});

  EXPECT_EQ(told.exit_code, 0) << told.output;
  EXPECT_THAT(told.output, HasSubstr("epoch 1: rank 1 (pid "));
  EXPECT_THAT(told.output, HasSubstr("was killed by signal 9 (SIGKILL)"));
  EXPECT_THAT(told.output, ContainsRegex("\nstep [0-9]+ .*every rank had ended it"));
  EXPECT_THAT(told.output, ContainsRegex("\n  seed 7: .*at tokens? [0-9]+"));
  EXPECT_EQ(again.exit_code, 0) << again.output;
  EXPECT_THAT(again.output, ContainsRegex("compared the hashes of [0-9]+ steps, 1 to [0-9]+: "));
  EXPECT_EQ(broken.exit_code, 2) << broken.output;
}

}  // namespace
}  // namespace conclave
