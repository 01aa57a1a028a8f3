#include "common/answer/checker.h"

#include <gtest/gtest.h>

#include <string>

#include "common/status.h"

namespace conclave {
namespace {

using Kind = CheckerSpec::Kind;

Checker Made(const CheckerSpec& spec) {
  absl::StatusOr<Checker> checker = Checker::Parse(spec);
  EXPECT_TRUE(checker.ok()) << checker.status();
  return *checker;
}

std::string Parsed(const CheckerSpec& spec) {
  return std::string(MessageOf(Checker::Parse(spec).status()));
}

// "" when it is accepted.
std::string Reason(const Checker& checker, std::string_view answer) {
  const Verdict verdict = checker.Check(answer);
  EXPECT_EQ(verdict.accepted, verdict.reason.empty());
  return verdict.reason;
}

TEST(CheckerTest, ArithmeticReachesItsValueWithItsNumbers) {
  const Checker checker = Made({Kind::kArithmetic, "22", {3, 8, 2}});
  EXPECT_EQ(Reason(checker, "(8+3)*2"), "");
  EXPECT_EQ(Reason(checker, " 2 * (3 + 8) = 22 \n"), "");
  EXPECT_EQ(Reason(checker, "3*8-2"), "");
  EXPECT_EQ(Reason(checker, "8*2+3"), "comes to 19, not to 22");
  EXPECT_EQ(Reason(checker, "22"), "is made of 22, not of 2, 3, 8");
  EXPECT_EQ(Reason(checker, "3*8-2*1"), "is made of 1, 2, 3, 8, not of 2, 3, 8");
  EXPECT_EQ(Reason(checker, "it is 22"), "has 'i' at byte 1");
}

TEST(CheckerTest, ArithmeticWithoutNumbersTakesAny) {
  const Checker checker = Made({Kind::kArithmetic, "7/2", {}});
  EXPECT_EQ(Reason(checker, "3+1/2"), "");
  EXPECT_EQ(Reason(checker, "14/4"), "");
  EXPECT_EQ(Reason(checker, "3.5"), "has '.' at byte 2");
}

TEST(CheckerTest, ARegexMatchesTheWholeAnswer) {
  const Checker checker = Made({Kind::kRegex, "[A-D]", {}});
  EXPECT_EQ(Reason(checker, " B\n"), "");
  EXPECT_EQ(Reason(checker, "AB"), "does not match the pattern");
  EXPECT_EQ(Reason(checker, ""), "does not match the pattern");
}

TEST(CheckerTest, ASchemaTakesJson) {
  const Checker checker = Made({Kind::kJsonSchema, R"({"required": ["a"]})", {}});
  EXPECT_EQ(Reason(checker, R"({"a": 1})"), "");
  EXPECT_EQ(Reason(checker, "{}"), "lacks \"a\"");
}

TEST(CheckerTest, WhatIsNoCheckerIsRefused) {
  EXPECT_EQ(Parsed({Kind::kArithmetic, "", {}}), "is empty");
  EXPECT_EQ(Parsed({Kind::kArithmetic, "2.5", {}}), "is neither an integer nor a fraction");
  EXPECT_EQ(Parsed({Kind::kArithmetic, std::string(65, '1'), {}}), "has 65 bytes; the limit is 64");
  EXPECT_EQ(Parsed({Kind::kArithmetic, "1", {4, -3}}),
            "comes with the number -3; 0 or more is allowed");
  EXPECT_EQ(Parsed({Kind::kArithmetic, "1", std::vector<int64_t>(65, 1)}),
            "comes with 65 numbers; the limit is 64");
  EXPECT_EQ(Parsed({Kind::kRegex, "", {}}), "is empty");
  EXPECT_EQ(Parsed({Kind::kRegex, "(", {}}), "is not valid: missing ): (");
  EXPECT_EQ(Parsed({Kind::kRegex, std::string(4097, 'a'), {}}),
            "has 4097 bytes; the limit is 4096");
  std::string steps;
  for (int i = 0; i < 10; ++i) steps += "(a{30}){30}";
  EXPECT_EQ(Parsed({Kind::kRegex, steps, {}}).substr(0, 6), "makes ");
  EXPECT_EQ(Parsed({Kind::kJsonSchema, "", {}}), "is not valid JSON at byte 1");
}

TEST(CheckerTest, WhatWouldTakeLongIsRejected) {
  const Checker checker = Made({Kind::kRegex, "(a{30}){30}b", {}});
  const std::string reason = Reason(checker, std::string(100'000, 'a'));
  EXPECT_EQ(reason.substr(0, 31), "has 100000 bytes; the limit is ") << reason;
  EXPECT_EQ(Reason(checker, std::string(5000, 'a')).substr(0, 29), "has 5000 bytes; the limit is ")
      << "2 Mi steps";
}

TEST(CheckerTest, ReasonsAreShortAndPlain) {
  const Checker checker = Made({Kind::kJsonSchema, R"({"additionalProperties": false})", {}});
  const std::string name = std::string(200, 'x') + "\xC3\xB6";
  EXPECT_LT(Reason(checker, "{\"" + name + "\": 1}").size(), 200);
  EXPECT_EQ(Reason(checker, R"({"\u001b[31m": 1})"), "may not be there at /\\x1b[31m");
  const Checker numbers = Made({Kind::kArithmetic, "1", {1}});
  std::string sum = "1000000";
  for (int i = 0; i < 200; ++i) sum += "+1000000";
  EXPECT_LE(Reason(numbers, sum).size(), 256);
}

}  // namespace
}  // namespace conclave
