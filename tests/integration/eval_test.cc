// `conclave eval` against a running pair with the model that ships.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tests/integration/cluster.h"

namespace conclave {
namespace {

using nlohmann::json;
using testing::ContainsRegex;
using testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Seconds(180);

class EvalTest : public testing::Test {
 protected:
  void SetUp() override {
    cluster_.StartWorker();
    cluster_.StartRouter();
    cluster_.AwaitServed();
  }

  std::string Results() const { return cluster_.folder() + "/results.jsonl"; }
  std::string Page() const { return cluster_.folder() + "/page.html"; }
  std::string Log() const { return cluster_.folder() + "/eval.log"; }

  std::vector<std::string> Arguments(const std::string& suite, const std::string& count,
                                     std::vector<std::string> more) const {
    std::vector<std::string> all = {
        "eval", suite, "--count", count, "--router", cluster_.RouterAddress(), "--json", Results()};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  int Run(const std::string& suite, const std::string& count, std::vector<std::string> more) {
    Program eval("conclave", Arguments(suite, count, std::move(more)), Log());
    return eval.Wait(kPatience);
  }

  // The lines of the results that hold `key`.
  std::vector<json> Lines(const std::string& key) const {
    std::vector<json> found;
    std::istringstream lines(FileText(Results()));
    for (std::string line; std::getline(lines, line);) {
      json one = json::parse(line, nullptr, false);
      if (one.is_object() && one.contains(key)) found.push_back(std::move(one));
    }
    return found;
  }

  Cluster cluster_;
};

const std::vector<std::string> kArms = {"--arm", "greedy:mode=thinking,temperature=0", "--arm",
                                        "pool:agents=4,stop-rule=none,aggregation=vote"};

TEST_F(EvalTest, TwentyQuestionsAreAskedReportedAndTheRestIsAskedLater) {
  std::vector<std::string> more = kArms;
  more.insert(more.end(), {"--html", Page()});

  ASSERT_EQ(Run("word", "20", more), 0) << FileText(Log());

  EXPECT_THAT(FileText(Log()), HasSubstr("word seed 1, 20 questions"));
  EXPECT_THAT(FileText(Log()), ContainsRegex("votes of pool"));
  ASSERT_EQ(Lines("problem").size(), 40u);
  const json summary = Lines("summary").back()["summary"];
  const json greedy = summary["arms"][0], pool = summary["arms"][1];
  EXPECT_EQ(greedy["errors"], 0);
  EXPECT_GE(greedy["right"]["value"].get<double>(), 0.9) << "the model that ships knows these";
  EXPECT_EQ(pool["agents"], 4);
  EXPECT_EQ(pool["curve"].size(), 3u);
  EXPECT_EQ(pool["curve"][2]["majority"]["value"], pool["right"]["value"])
      << "the router's vote is the one that is made of its agents' answers";
  EXPECT_GT(pool["tokens"]["value"].get<double>(), 3 * greedy["tokens"]["value"].get<double>());
  EXPECT_THAT(FileText(Page()), HasSubstr("</svg>"));

  ASSERT_EQ(Run("word", "25", more), 0) << FileText(Log());

  EXPECT_EQ(Lines("problem").size(), 50u) << "five more in each arm";
  EXPECT_THAT(FileText(Log()), HasSubstr("word seed 1, 25 questions"));
}

TEST_F(EvalTest, CtrlCReportsWhatThereIs) {
  Program eval("conclave", Arguments("story:7", "100000", {"--concurrency", "2"}), Log());
  ASSERT_TRUE(Eventually(kPatience, [&] { return Lines("problem").size() >= 3; }));

  eval.Signal(SIGINT);

  EXPECT_EQ(eval.Wait(kPatience), 130) << FileText(Log());
  EXPECT_THAT(FileText(Log()), ContainsRegex("story:7 seed 1, [0-9]+ questions"));
  for (const json& line : Lines("problem")) EXPECT_FALSE(line.contains("error")) << line;
}

TEST_F(EvalTest, ASuiteThatWasWrittenIsAskedAsItsOwn) {
  const std::string suite = cluster_.folder() + "/suite.jsonl";
  {
    Program write("conclave", {"eval", "target:3", "--count", "4", "--write", suite}, Log());
    ASSERT_EQ(write.Wait(kPatience), 0) << FileText(Log());
  }

  ASSERT_EQ(Run(suite, "4", {"--arm", "pool:agents=4,stop-rule=none,aggregation=vote"}), 0)
      << FileText(Log());

  const json summary = Lines("summary").back()["summary"];
  EXPECT_EQ(summary["arms"][0]["asked"], 4);
  EXPECT_GE(summary["arms"][0]["pass"]["value"].get<double>(), 0.5)
      << "one of four agents is nearly always right";
}

}  // namespace
}  // namespace conclave
