#include "cli/eval/results_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace conclave::cli {
namespace {

using testing::HasSubstr;

Outcome OutcomeOf(const std::string& arm, const std::string& problem,
                  const std::string& error = "") {
  Outcome outcome;
  outcome.arm = arm;
  outcome.problem = problem;
  outcome.error = error;
  return outcome;
}

class ResultsFileTest : public testing::Test {
 protected:
  ResultsFileTest() {
    std::filesystem::remove(path_);
    settings_.suite = "story:7 seed 1";
    settings_.arms = {*ParseArm("greedy:mode=thinking"), *ParseArm("pool:agents=4")};
  }

  // A file with one answer and one error.
  void Begin() {
    absl::StatusOr<ResultsFile> file = ResultsFile::Open(path_, settings_);
    ASSERT_TRUE(file.ok()) << file.status();
    file->Add(OutcomeOf("greedy", "1"));
    file->Add(OutcomeOf("greedy", "2", "UNAVAILABLE: gone"));
    EXPECT_TRUE(file->Finish({}).ok());
  }
  std::string Text() const {
    std::stringstream text;
    text << std::ifstream(path_).rdbuf();
    return text.str();
  }

  const std::string path_ = testing::TempDir() + "/results-" + std::to_string(getpid()) + ".jsonl";
  EvaluationSettings settings_;
};

TEST_F(ResultsFileTest, WhatWasAnsweredNeedNotBeAskedAgainButErrorsMust) {
  Begin();

  const auto file = ResultsFile::Open(path_, settings_);

  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ(file->before().size(), 1u);
  EXPECT_EQ(file->before()[0].problem, "1");
}

TEST_F(ResultsFileTest, ArmsMayBeAdded) {
  Begin();
  settings_.arms.push_back(*ParseArm("beta:stop-rule=beta"));
  EXPECT_TRUE(ResultsFile::Open(path_, settings_).ok());
}

TEST_F(ResultsFileTest, AnotherEvaluationsFileIsRefusedAndStaysAsItIs) {
  Begin();
  const std::string before = Text();
  EvaluationSettings suite = settings_, seed = settings_, arm = settings_;
  suite.suite = "story:8 seed 1";
  seed.seed = 2;
  arm.arms[1] = *ParseArm("pool:agents=5");

  EXPECT_THAT(ResultsFile::Open(path_, suite).status().ToString(), HasSubstr("its suite is"));
  EXPECT_THAT(ResultsFile::Open(path_, seed).status().ToString(),
              HasSubstr("its seed is 1, not 2"));
  EXPECT_THAT(ResultsFile::Open(path_, arm).status().ToString(), HasSubstr("its arm pool is"));
  EXPECT_EQ(Text(), before);
}

TEST_F(ResultsFileTest, AFileOfSomethingElseIsRefused) {
  std::ofstream(path_) << "notes\n";
  EXPECT_FALSE(ResultsFile::Open(path_, settings_).ok());
  std::ofstream(path_) << "{\"arm\": \"a\", \"problem\": \"p\"}\n";
  EXPECT_EQ(ResultsFile::Open(path_, settings_).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(ResultsFileTest, ATornLastLineIsDroppedAndTheNextOneStandsAlone) {
  Begin();
  std::ofstream(path_, std::ios::app) << "{\"arm\": \"greedy\", \"pro";

  {
    absl::StatusOr<ResultsFile> file = ResultsFile::Open(path_, settings_);
    ASSERT_TRUE(file.ok()) << file.status();
    file->Add(OutcomeOf("pool", "1"));
  }

  EXPECT_EQ(ResultsFile::Open(path_, settings_)->before().size(), 2u);
}

TEST_F(ResultsFileTest, WithoutAPathNothingIsKept) {
  absl::StatusOr<ResultsFile> file = ResultsFile::Open("", settings_);
  ASSERT_TRUE(file.ok());
  file->Add(OutcomeOf("greedy", "1"));
  EXPECT_TRUE(file->Finish({}).ok());
}

TEST_F(ResultsFileTest, AFolderThatIsNotThereIsSaid) {
  EXPECT_EQ(ResultsFile::Open("/nowhere/at/all.jsonl", settings_).status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace conclave::cli
