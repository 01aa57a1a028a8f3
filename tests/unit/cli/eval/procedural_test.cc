#include "cli/eval/procedural.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <regex>
#include <set>

#include "cli/eval/grade.h"

namespace conclave::cli {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;
using testing::StartsWith;

ProceduralSpec Spec(const std::string& name) {
  const absl::StatusOr<ProceduralSpec> spec = ParseProcedural(name);
  EXPECT_TRUE(spec.ok()) << spec.status();
  return spec.ok() ? *spec : ProceduralSpec();
}

std::vector<Problem> Problems(const std::string& name, int count, uint64_t seed = 1) {
  return MakeProcedural(name, Spec(name), {.seed = seed, .offset = 0, .count = count}).problems;
}

TEST(ProceduralTest, AProblemIsAFunctionOfItsSeedAndIndex) {
  const Suite all =
      MakeProcedural("story:3", Spec("story:3"), {.seed = 7, .offset = 0, .count = 20});
  const Suite rest =
      MakeProcedural("story:3", Spec("story:3"), {.seed = 7, .offset = 12, .count = 8});

  for (size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(rest.problems[i].question, all.problems[i + 12].question);
    EXPECT_EQ(rest.problems[i].id, all.problems[i + 12].id);
  }
  EXPECT_NE(Problems("story:3", 1, 8)[0].question, all.problems[0].question);
  EXPECT_EQ(all.problems[12].id, "story:3/7/12");
}

// The first one of a seed, word for word: another one would make all that was measured void.
TEST(ProceduralTest, TheFirstOfASeedStays) {
  EXPECT_EQ(Problems("chain:3", 1)[0].question,
            "Start with 23, then plus 373, times 2, minus 233. What is the result?");
}

// Says again what a chain says.
int64_t ChainByHand(const std::string& question) {
  const std::regex start("Start with (\\d+), then");
  std::smatch match;
  std::regex_search(question, match, start);
  int64_t value = std::stoll(match[1]);
  const std::regex step("(plus|minus|times|divided by) (\\d+)");
  for (auto it = std::sregex_iterator(question.begin(), question.end(), step);
       it != std::sregex_iterator(); ++it) {
    const int64_t b = std::stoll((*it)[2]);
    const std::string op = (*it)[1];
    EXPECT_TRUE(op != "divided by" || value % b == 0) << question;
    value = op == "plus"    ? value + b
            : op == "minus" ? value - b
            : op == "times" ? value * b
                            : value / b;
    EXPECT_GE(value, 1) << question;
    EXPECT_LE(value, 999) << question;
  }
  return value;
}

TEST(ProceduralTest, AChainsAnswerIsWhatItsStepsComeTo) {
  for (const Problem& problem : Problems("chain:7", 500)) {
    EXPECT_EQ(problem.answer, std::to_string(ChainByHand(problem.question))) << problem.question;
  }
}

TEST(ProceduralTest, AStoryHasItsOperationsAndAsksForWhatItIsAbout) {
  const std::regex form(
      "(Tom|Mia|Ben|Ana|Leo|Zoe|Sam|Eva|Max|Ivy|Dan|Kim) has \\d+ ([a-z]+)\\. .* How many \\2 does "
      "\\1 have now\\?");
  for (const Problem& problem : Problems("story:7", 200)) {
    EXPECT_TRUE(std::regex_match(problem.question, form)) << problem.question;
    EXPECT_EQ(std::count(problem.question.begin(), problem.question.end(), '.'), 8)
        << problem.question;
  }
}

TEST(ProceduralTest, ATargetsExpressionIsAcceptedAndAnotherOneIsNot) {
  for (const Problem& problem : Problems("target:4", 300)) {
    const absl::StatusOr<Grader> grader = Grader::Make(problem);
    ASSERT_TRUE(grader.ok()) << grader.status();
    EXPECT_TRUE(grader->IsRight(problem.answer)) << problem.question << " " << problem.answer;
    EXPECT_FALSE(grader->IsRight(problem.answer + "+1")) << problem.question;
    EXPECT_FALSE(grader->IsRight(problem.checker->arithmetic().value())) << problem.question;
  }
  EXPECT_THAT(Problems("target:3", 1)[0].question,
              MatchesRegex("Make [0-9]+ from [2-9], [2-9], [2-9]\\. Use each number once\\."));
}

TEST(ProceduralTest, AComparisonHasTwoAnswersAboutEquallyOften) {
  int yes = 0;
  for (const Problem& problem : Problems("compare", 1000)) {
    int a = 0, b = 0, c = 0;
    ASSERT_EQ(std::sscanf(problem.question.c_str(), "Is %d * %d more than %d? Answer yes or no.",
                          &a, &b, &c),
              3)
        << problem.question;
    EXPECT_EQ(problem.answer, a * b > c ? "yes" : "no");
    yes += problem.answer == "yes" ? 1 : 0;
  }
  EXPECT_NEAR(yes, 500, 60);
}

TEST(ProceduralTest, ACompoundQuestionHasTwoPartsAndWhatJoinsThem) {
  std::set<std::string> joined;
  for (const Problem& problem : Problems("compound", 100)) {
    EXPECT_THAT(problem.question, StartsWith("First: "));
    EXPECT_THAT(problem.question, HasSubstr("? Second: "));
    joined.insert(problem.question.substr(problem.question.rfind("What is the")));
  }
  EXPECT_EQ(joined, (std::set<std::string>{"What is the sum of the two answers?",
                                           "What is the difference of the two answers?"}));
}

TEST(ProceduralTest, LongQuestionsShareTheirBeginning) {
  const std::vector<Problem> problems = Problems("long:300", 2);
  const std::string &a = problems[0].question, &b = problems[1].question;
  const size_t shared =
      static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());

  EXPECT_GE(std::count(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(shared), ' '), 300);
  EXPECT_NE(a, b);
}

// The recipe's choices: each kind of a story of words as often as every other.
TEST(ProceduralTest, WordsAreOfTwelveKindsEquallyOften) {
  std::map<std::string, int> kinds;
  for (const Problem& problem : Problems("word", 2400)) {
    std::string kind;
    for (const std::string word :
         {"boxes with", "crates", "finds", "shares", "rows of", "bags of", "km each", "is paid",
          "with more have", "farm", "times as many", "splits each"}) {
      if (problem.question.find(word) != std::string::npos) kind = word;
    }
    ++kinds[kind];
  }
  EXPECT_EQ(kinds.size(), 12u);
  for (const auto& [kind, count] : kinds) EXPECT_NEAR(count, 200, 70) << kind;
}

TEST(ProceduralTest, AWrongNameOrSizeIsRefusedWithWhatThereIs) {
  for (const char* name :
       {"story", "story:", "story:0", "story:65", "story:7x", "compare:2", "target:1"}) {
    EXPECT_EQ(ParseProcedural(name).status().code(), absl::StatusCode::kInvalidArgument) << name;
  }
  EXPECT_THAT(ParseProcedural("sudoku").status().ToString(),
              HasSubstr("story:N, chain:N, target:N"));
}

}  // namespace
}  // namespace conclave::cli
