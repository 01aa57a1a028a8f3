#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <vector>

#include "common/answer/checker.h"
#include "common/answer/expression.h"
#include "common/status.h"
#include "tests/fuzz/counted_memory.h"
#include "tests/fuzz/mutate.h"

// Checkers of strangers and answers of models, mutated from seeds: a verdict comes, with its reason
// in plain UTF-8. No crash, no endless work, no more memory than a bound. A failure names its seed.
namespace conclave {
namespace {

using Json = nlohmann::json;
using Kind = CheckerSpec::Kind;

constexpr size_t kMostBytes = size_t{32} << 20;

const std::vector<CheckerSpec> kCheckers = {
    {Kind::kArithmetic, "24", {3, 3, 8, 8}},
    {Kind::kArithmetic, "-7/2", {}},
    {Kind::kRegex, "(?:[A-D]|yes|no)+\\.?", {}},
    {Kind::kJsonSchema,
     R"({"type": "object", "required": ["a", "b"], "additionalProperties": {"type": "null"},
         "properties": {"a": {"type": ["integer", "null"], "minimum": -3, "maximum": 1e3},
                        "b": {"items": {"enum": [1, "x", [2, {"y": null}]]}, "minItems": 1},
                        "c": {"pattern": "^[a-z]+$", "minLength": 1, "maxLength": 9},
                        "d": {"const": {"e": [true]}}}})",
     {}}};
const std::vector<std::string> kAnswers = {
    "8/(3-8/3)",
    "(2 + 3) * -4 = -20",
    "-7 / +2",
    "yes.",
    R"({"a": 7, "b": [1.0, "x", [2, {"y": null}]], "c": "abc", "d": {"e": [true]}, "z": null})",
    "```json\n{\"a\": null, \"b\": [1]}\n```"};
const std::vector<std::string> kWords = {
    "(",        ")",    "-",     "*",         "/",          "=",       "9223372036854775807",
    "\xC3\x97", "0",    "{",     "}",         "[",          "]",       "\"",
    ":",        ",",    "1e400", "-0.0",      "null",       "\\u0000", "\xFF",
    " ",        "{30}", "((((",  "\"type\":", "\"items\":{"};

TEST(CheckerFuzzTest, EveryMutantGetsAVerdict) {
  int made = 0, accepted = 0;
  const int kMutants = Rounds(20'000);
  for (int seed = 0; seed < kMutants; ++seed) {
    SCOPED_TRACE(seed);
    Random random(SeedOf(seed));
    CheckerSpec spec = kCheckers[Below(random, kCheckers.size())];
    std::string answer = kAnswers[Below(random, kAnswers.size())];
    if (seed % 2 == 0) Mutate(random, kWords, spec.argument);
    for (size_t n = Below(random, 3); n > 0; --n) Mutate(random, kWords, answer);
    const CountedMemory memory;
    const absl::StatusOr<Checker> checker = Checker::Parse(spec);
    if (checker.ok()) {
      ++made;
      const Verdict verdict = checker->Check(answer);
      accepted += verdict.accepted ? 1 : 0;
      ASSERT_EQ(verdict.accepted, verdict.reason.empty());
      ASSERT_LE(verdict.reason.size(), 256);
      ASSERT_NO_THROW((void)Json(verdict.reason).dump()) << verdict.reason;
      ASSERT_EQ(checker->Check(answer), verdict);
    } else {
      ASSERT_FALSE(MessageOf(checker.status()).empty());
    }
    ASSERT_LT(memory.peak(), kMostBytes);
  }
  std::printf("checkers: %d of %d mutants parsed, %d answers accepted\n", made, kMutants, accepted);
  EXPECT_GT(made, kMutants / 2);
  EXPECT_LT(made, kMutants);
  EXPECT_GT(accepted, kMutants / 50);
}

// What is written out of an expression's own numbers and value is read back.
TEST(CheckerFuzzTest, AnExpressionIsAcceptedByACheckerOfItsValue) {
  int evaluated = 0;
  for (int seed = 0; seed < Rounds(5'000); ++seed) {
    SCOPED_TRACE(seed);
    Random random(SeedOf(seed));
    std::string text = kAnswers[Below(random, 3)];
    for (size_t n = Below(random, 3); n > 0; --n) Mutate(random, kWords, text);
    const absl::StatusOr<Expression> expression = Evaluate(text);
    if (!expression.ok() || expression->numbers.size() > kMostCheckedNumbers) continue;
    ++evaluated;
    const auto checker =
        Checker::Parse({Kind::kArithmetic, TextOf(expression->value), expression->numbers});
    ASSERT_TRUE(checker.ok()) << checker.status();
    ASSERT_TRUE(checker->Check(text).accepted) << text;
  }
  EXPECT_GT(evaluated, 500);
}

}  // namespace
}  // namespace conclave
