#include "cli/eval/arms.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

namespace conclave::cli {
namespace {

using testing::HasSubstr;

TEST(ArmTest, ItsKeysAreTheOptionsOfAsk) {
  const auto arm = ParseArm("beta:agents=16,stop-rule=beta,stop-certainty=0.9,temperatures=0.5,1");

  ASSERT_TRUE(arm.ok()) << arm.status();
  EXPECT_EQ(arm->name, "beta");
  EXPECT_EQ(arm->request.mode(), v1::MODE_CONTEMPLATING);
  EXPECT_EQ(arm->request.contemplation().max_agents(), 16);
  EXPECT_EQ(arm->request.contemplation().stop_rule(), v1::STOP_RULE_LEADER_BEATS_RUNNER_UP);
  EXPECT_EQ(arm->request.contemplation().stop_certainty(), 0.9);
  EXPECT_EQ(arm->request.contemplation().temperatures_size(), 2);
  EXPECT_EQ(arm->request.messages_size(), 0);
  EXPECT_EQ(arm->request.include_size(), 0);
}

TEST(ArmTest, ASuitesCheckerIsBroughtAlongWhereItIsWanted) {
  EXPECT_TRUE(ParseArm("c:agents=4,checker=suite")->gives_checker);
  EXPECT_FALSE(ParseArm("c:agents=4")->gives_checker);
  EXPECT_THAT(ParseArm("c:checker=mine").status().ToString(), HasSubstr("it can be suite"));
  EXPECT_THAT(ParseArm("c:mode=thinking,checker=suite").status().ToString(),
              HasSubstr("mode=contemplating"));
}

TEST(ArmTest, WhatIsWrongIsSaidWithItsName) {
  for (const char* text :
       {"x:agents=many", "x:colour=red", "x:mode=deep", "x:mode=thinking,agents=4", ":agents=4",
        "two words:agents=4", "x:deadline=0"}) {
    EXPECT_EQ(ParseArm(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
  EXPECT_THAT(ParseArm("x:agents=many").status().ToString(), HasSubstr("arm x"));
}

TEST(ArmTest, TheDefaultsAreRight) {
  for (const std::string& text : DefaultArms()) EXPECT_TRUE(ParseArm(text).ok()) << text;
  EXPECT_EQ(ParseArm(DefaultArms()[0])->request.mode(), v1::MODE_UNSPECIFIED)
      << "a model that does not think has a likeliest answer too";
}

TEST(ArmsFileTest, OptionsMayHoldCommas) {
  const std::string path = testing::TempDir() + "/arms.yaml";
  std::ofstream(path)
      << "arms:\n"
         "  - name: greedy\n"
         "    options: [mode=thinking, temperature=0]\n"
         "  - name: roles\n"
         "    options: [strategy=roles, \"role=Be brief, and kind.\", role=Check.]\n";

  const auto arms = LoadArms(path);

  ASSERT_TRUE(arms.ok()) << arms.status();
  ASSERT_EQ(arms->size(), 2u);
  EXPECT_EQ((*arms)[1].request.contemplation().roles(0), "Be brief, and kind.");
  EXPECT_EQ((*arms)[1].request.contemplation().roles(1), "Check.");
}

TEST(ArmsFileTest, WhatIsWrongIsSaidWithItsPlace) {
  const std::string path = testing::TempDir() + "/arms.yaml";
  std::ofstream(path) << "arms:\n  - name: a\n    options: [mode=deep]\n";
  EXPECT_THAT(LoadArms(path).status().ToString(), HasSubstr("arms.yaml:2"));
  std::ofstream(path) << "arms: []\n";
  EXPECT_THAT(LoadArms(path).status().ToString(), HasSubstr("no arms"));
  EXPECT_EQ(LoadArms("/nowhere.yaml").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace conclave::cli
