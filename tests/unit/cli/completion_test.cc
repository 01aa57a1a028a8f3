#include "cli/completion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "cli/commands.h"
#include "common/status.h"

namespace conclave::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string Script(const std::string& shell) {
  CLI::App app;
  CommandLine line;
  DefineCommands(app, line);
  const auto script = CompletionScript(app, shell);
  return script.ok() ? *script : std::string(MessageOf(script.status()));
}

// What a command prints.
std::string OutputOf(const std::string& command) {
  FILE* pipe = popen(command.c_str(), "r");
  std::string output;
  for (int c = fgetc(pipe); c != EOF; c = fgetc(pipe)) output += static_cast<char>(c);
  pclose(pipe);
  return output;
}

// What bash offers for the last of `words`, one a line.
std::string Offered(const std::string& words) {
  const std::string path = testing::TempDir() + "/conclave.bash";
  std::ofstream(path) << Script("bash");
  std::ofstream(path, std::ios::app)
      << "COMP_WORDS=(" << words << ")\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_conclave\n"
      << "printf '%s\\n' \"${COMPREPLY[@]}\"\n";
  return OutputOf("cd " CONCLAVE_SOURCE_DIR " && bash --norc " + path + " 2>&1");
}

TEST(BashCompletionTest, TheFirstWordIsASubcommand) {
  EXPECT_EQ(Offered("conclave ''"),
            "ask\nreplay\neval\nrender\ntokenize\nmodels\ncheck\nhealth\ncompletion\n--help\n-h\n--"
            "version\n");
  EXPECT_EQ(Offered("conclave as"), "ask\n");
}

TEST(BashCompletionTest, OptionsOfTheSubcommandAreOffered) {
  EXPECT_EQ(Offered("conclave ask --stop-"),
            "--stop-rule\n--stop-votes\n--stop-certainty\n--stop-token\n");
  EXPECT_EQ(Offered("conclave ask --agents 8 --js"), "--json\n");
  EXPECT_THAT(Offered("conclave models --"), Not(HasSubstr("--agents")));
  for (const char* command : {"ask", "replay", "render", "models"}) {
    EXPECT_EQ(Offered(std::string("conclave ") + command + " --tls"),
              "--tls-ca\n--tls-cert\n--tls-key\n--tls-name\n");
  }
}

TEST(BashCompletionTest, TheWordsOfAnOptionAreOffered) {
  EXPECT_EQ(Offered("conclave ask --stop-rule q"), "quorum\n");
  EXPECT_EQ(Offered("conclave ask --mode = con"), "contemplating\n");
  EXPECT_EQ(Offered("conclave ask --answer-key js"), "json:\n");
  EXPECT_EQ(Offered("conclave completion z"), "zsh\n");
}

TEST(BashCompletionTest, FilesAreOfferedWhereAFileIsWanted) {
  EXPECT_EQ(Offered("conclave check configs/ro"), "configs/router.yaml\n");
  EXPECT_EQ(Offered("conclave ask --receipt READ"), "README.md\n");
  EXPECT_EQ(Offered("conclave ask --agents READ"), "\n");
  EXPECT_EQ(Offered("conclave replay READ"), "README.md\n");
  EXPECT_EQ(Offered("conclave models --tls-ca READ"), "README.md\n");
}

TEST(BashCompletionTest, FoldersAloneAreOfferedWhereAFolderIsWanted) {
  EXPECT_EQ(Offered("conclave tokenize --model mod"), "models\n");
  EXPECT_EQ(Offered("conclave tokenize --model READ"), "\n");
}

TEST(ZshCompletionTest, EveryOptionStandsThereWithItsWordsAndItsHelp) {
  const std::string script = Script("zsh");
  EXPECT_THAT(script, HasSubstr("'ask:Ask a question and watch the agents.'"));
  EXPECT_THAT(
      script,
      HasSubstr(
          "'--aggregation[How the answers become one (auto\\: the vote, or a synthesis where none "
          "leads)]:word:(auto vote weighted-vote synthesise select check)'"));
  EXPECT_THAT(script, HasSubstr("'--api-key-file[File whose first line is your key]:file:_files'"));
  EXPECT_THAT(script, HasSubstr("'--model[The model'\\''s folder]:folder:_files -/'"));
  EXPECT_THAT(script, HasSubstr("'--json[One event a line, as JSON, and nothing else]'"));
}

TEST(ZshCompletionTest, ZshTakesTheScript) {
  if (OutputOf("command -v zsh").empty()) GTEST_SKIP() << "there is no zsh here";
  const std::string path = testing::TempDir() + "/conclave.zsh";
  std::ofstream(path) << "autoload -Uz compinit && compinit -D\n"
                      << Script("zsh") << "print -r -- $_comps[conclave]\n";
  EXPECT_EQ(OutputOf("zsh -f " + path + " 2>&1"), "_conclave\n");
}

TEST(CompletionTest, AnotherShellIsRefusedWithTheOnesThatExist) {
  EXPECT_EQ(Script("fish"), "the shell is 'fish'; it can be bash or zsh");
}

}  // namespace
}  // namespace conclave::cli
