#include "cli/check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "cli/exit_code.h"

namespace conclave::cli {
namespace {

using testing::HasSubstr;

constexpr char kSource[] = CONCLAVE_SOURCE_DIR;

std::string Write(const std::string& name, const std::string& text) {
  const std::string path = testing::TempDir() + "/" + name;
  std::ofstream(path) << text;
  return path;
}

struct Outcome {
  int exit_code = 0;
  std::string out, errors;
};

Outcome Check(const CheckOptions& options) {
  std::ostringstream out, errors;
  const int exit_code = CheckConfigs(options, out, errors);
  return {exit_code, out.str(), errors.str()};
}

Outcome Check(std::vector<std::string> files, std::string as = "",
              std::vector<std::string> overrides = {}) {
  CheckOptions options;
  options.files = std::move(files);
  options.as = std::move(as);
  options.overrides = std::move(overrides);
  return Check(options);
}

Outcome CheckText(std::vector<std::string> files) {
  CheckOptions options;
  options.files = std::move(files);
  options.only_text = true;
  return Check(options);
}

// Configs name files from the project's root.
class CheckTest : public testing::Test {
 protected:
  CheckTest() : before_(std::filesystem::current_path()) { std::filesystem::current_path(kSource); }
  ~CheckTest() override { std::filesystem::current_path(before_); }

 private:
  const std::filesystem::path before_;
};

TEST_F(CheckTest, EveryShippedConfigIsRightAndRecognisedByItsKeys) {
  CheckOptions options;
  for (const char* folder : {"configs", "configs/prompts", "models/conclave-demo"}) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().extension() == ".yaml") options.files.push_back(entry.path().string());
    }
  }
  ASSERT_GE(options.files.size(), 4u);

  const Outcome outcome = Check(options);

  EXPECT_EQ(outcome.exit_code, kExitOk);
  EXPECT_EQ(outcome.errors, "");
  EXPECT_THAT(outcome.out, HasSubstr("configs/router.yaml: ok, a router's config\n"));
  EXPECT_THAT(outcome.out, HasSubstr("configs/worker.yaml: ok, a worker's config\n"));
  EXPECT_THAT(outcome.out, HasSubstr("configs/prompts/default.yaml: ok, a model's profile\n"));
}

TEST_F(CheckTest, EveryMistakeOfEveryFileIsListedAndTheOthersAreStillChecked) {
  const std::string router = Write("r.yaml", "workers: {adresses: [a:1]}\nlimits: {deadline: 5}\n");
  const std::string worker = Write("w.yaml", "group: {threads: 0}\n");

  const Outcome outcome = Check({router, "configs/worker.yaml", worker});

  EXPECT_EQ(outcome.exit_code, kExitUsage);
  EXPECT_EQ(outcome.out, "configs/worker.yaml: ok, a worker's config\n");
  EXPECT_THAT(outcome.errors, HasSubstr(router + ":1:11: workers.adresses: unknown key; did you "
                                                 "mean \"workers.addresses\"?\n"));
  EXPECT_THAT(outcome.errors,
              HasSubstr(router + ":2:20: limits.deadline: \"5\" is not a duration"));
  EXPECT_THAT(outcome.errors, HasSubstr(worker + ":1:18: group.threads: \"0\" is out of range"));
}

TEST_F(CheckTest, FilesThatAConfigNamesAreLookedAtUnlessOnlyTheTextIsToBe) {
  const std::string file = Write("m.yaml", "model: {directory: /nonexistent}\n");

  EXPECT_THAT(Check({file}).errors,
              HasSubstr(":1:20: model.directory: /nonexistent is not a folder"));
  EXPECT_EQ(CheckText({file}).exit_code, kExitOk);
}

TEST_F(CheckTest, AFileThatCouldBeEithersNeedsTheWord) {
  const std::string file = Write("log.yaml", "log: {level: debug}\n");

  EXPECT_THAT(Check({file}).errors, HasSubstr("--as router or --as worker"));
  EXPECT_EQ(Check({file}, "router").exit_code, kExitOk);
  EXPECT_EQ(Check({file}, "worker").exit_code, kExitOk);
  EXPECT_THAT(Check({file}, "boss").errors, HasSubstr("router, worker, profile"));
}

TEST_F(CheckTest, OverridesAreCheckedWithTheFile) {
  EXPECT_THAT(Check({"configs/worker.yaml"}, "", {"group.tensor_parallel=3"}).errors,
              HasSubstr("model.directory: group.tensor_parallel: "));
}

TEST_F(CheckTest, AFileThatIsMissingOrNoYamlIsNamed) {
  EXPECT_EQ(Check({"/nonexistent/a.yaml"}).errors, "/nonexistent/a.yaml: cannot be opened\n");
  EXPECT_THAT(Check({Write("broken.yaml", "a: [")}).errors, HasSubstr("broken.yaml:"));
}

TEST_F(CheckTest, WhatAFileSaysCannotSteerTheTerminal) {
  const std::string file = Write("steer.yaml", "group: {\"\\e[2J\": 1}\n");
  EXPECT_THAT(Check({file}).errors, HasSubstr("group.?[2J: unknown key"));
}

}  // namespace
}  // namespace conclave::cli
