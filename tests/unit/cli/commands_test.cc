#include "cli/commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace conclave::cli {
namespace {

using testing::Each;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

class CommandsTest : public testing::Test {
 protected:
  CommandsTest() { DefineCommands(app_, line_); }

  std::vector<const CLI::App*> All() {
    std::vector<const CLI::App*> all = {&app_};
    for (const CLI::App* command : app_.get_subcommands([](CLI::App*) { return true; })) {
      all.push_back(command);
    }
    return all;
  }

  CLI::App app_;
  CommandLine line_;
};

TEST_F(CommandsTest, OptionsReachTheirCommand) {
  app_.parse("ask --agents 16 --stop-rule beta --quiet \"2 + 2?\"", false);

  EXPECT_EQ(line_.ask.question, "2 + 2?");
  EXPECT_EQ(line_.ask.agents, 16);
  EXPECT_EQ(line_.ask.stop_rule, "beta");
  EXPECT_TRUE(line_.ask.quiet);
}

TEST_F(CommandsTest, AnEvaluationHasArmsAndASuite) {
  app_.parse("eval story:7 --count 20 --arm a:agents=2,wave=1 --arm b --html page.html", false);

  EXPECT_EQ(line_.eval.suite, "story:7");
  EXPECT_EQ(line_.eval.count, 20);
  EXPECT_EQ(line_.eval.arms, (std::vector<std::string>{"a:agents=2,wave=1", "b"}));
  EXPECT_EQ(line_.eval.page_file, "page.html");

  app_.parse("eval --suite mine.jsonl", false);
  EXPECT_EQ(line_.eval.suite, "mine.jsonl");
}

TEST_F(CommandsTest, FilesMayFollowAnOverride) {
  app_.parse("check --set a.b=1 --set c=2 x.yaml y.yaml", false);

  EXPECT_EQ(line_.check.files, (std::vector<std::string>{"x.yaml", "y.yaml"}));
  EXPECT_EQ(line_.check.overrides, (std::vector<std::string>{"a.b=1", "c=2"}));
}

TEST_F(CommandsTest, EachVerbHasItsOwnOptions) {
  app_.parse("replay bill.json --config w.yaml --set a=1 --router h:1 --json", false);
  EXPECT_EQ(line_.replay.file, "bill.json");
  EXPECT_EQ(line_.replay.config, "w.yaml");
  EXPECT_EQ(line_.replay.overrides, std::vector<std::string>{"a=1"});
  EXPECT_EQ(line_.replay.router, "h:1");
  EXPECT_TRUE(line_.replay.json);

  app_.parse("render --model models/x --ids --time-of-day 5 \"2 + 2?\"", false);
  EXPECT_EQ(line_.render.question, "2 + 2?");
  EXPECT_EQ(line_.render.model, "models/x");
  EXPECT_EQ(line_.render.time_of_day, 5);
  EXPECT_TRUE(line_.render.ids);

  app_.parse("tokenize --special --model models/x", false);
  EXPECT_EQ(line_.tokenize.text, "-") << "standard input";
  EXPECT_TRUE(line_.tokenize.special);

  app_.parse("models --api-key-file k", false);
  EXPECT_EQ(line_.models.api_key_file, "k");
}

TEST_F(CommandsTest, EveryHelpShowsAnExampleAndNoneOfItsOwnLinesIsLong) {
  for (const CLI::App* command : All()) {
    EXPECT_THAT(command->get_description(), HasSubstr(command->get_name())) << command->get_name();
    std::istringstream lines(command->help());
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 96u) << line;
  }
}

TEST_F(CommandsTest, TheListOfCommandsHasOneLineForEach) {
  const std::string help = app_.help();
  EXPECT_THAT(help, HasSubstr("Ask a question and watch the agents.\n"));
  EXPECT_THAT(help, Not(HasSubstr("At a terminal every agent")));
}

TEST_F(CommandsTest, WhatEndsWithAnExitCodeSaysWhichThereAre) {
  for (const CLI::App* command : All()) {
    EXPECT_THAT(command->get_footer(), testing::ContainsRegex("Exit codes[^\n]*:\n  0 "))
        << command->get_name();
  }
}

}  // namespace
}  // namespace conclave::cli
