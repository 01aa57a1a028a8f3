#include "common/answer/expression.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "common/status.h"

namespace conclave {
namespace {

std::string ValueOf(std::string_view text) {
  const absl::StatusOr<Expression> expression = Evaluate(text);
  return expression.ok() ? TextOf(expression->value) : std::string(MessageOf(expression.status()));
}

TEST(ExpressionTest, OperatorsBindAsOnPaper) {
  EXPECT_EQ(ValueOf("2+3*4"), "14");
  EXPECT_EQ(ValueOf("(2+3)*4"), "20");
  EXPECT_EQ(ValueOf("20-3-4"), "13");
  EXPECT_EQ(ValueOf("20/2/5"), "2");
  EXPECT_EQ(ValueOf("-2*-3"), "6");
  EXPECT_EQ(ValueOf("--2+(+3)"), "5");
  EXPECT_EQ(ValueOf(" ( 7 )\n* 3 "), "21");
}

TEST(ExpressionTest, DivisionIsExact) {
  EXPECT_EQ(ValueOf("8/(3-8/3)"), "24");
  EXPECT_EQ(ValueOf("1/3+1/6"), "1/2");
  EXPECT_EQ(ValueOf("2/-4"), "-1/2");
  EXPECT_EQ(ValueOf("0/5"), "0");
  EXPECT_EQ(ValueOf("1/(2-2)"), "divides by 0");
}

TEST(ExpressionTest, OtherSpellingsOfTheSignsAreKnown) {
  EXPECT_EQ(ValueOf("3 \xC3\x97 4 \xE2\x88\x92 6 \xC3\xB7 2 + 1 \xC2\xB7 5"), "14");
}

TEST(ExpressionTest, AValueBehindItMustBeRight) {
  EXPECT_EQ(ValueOf("3*4 = 12"), "12");
  EXPECT_EQ(ValueOf("3/4=6/8"), "3/4");
  EXPECT_EQ(ValueOf("3*4=13"), "says that 12 is 13");
  EXPECT_EQ(ValueOf("3*4=12=12"), "has '=' at byte 7");
  EXPECT_EQ(Evaluate("3*4=12")->numbers, (std::vector<int64_t>{3, 4}));
}

TEST(ExpressionTest, ItsNumbersStandInOrderWithoutSigns) {
  EXPECT_EQ(Evaluate("-7*(2+07)-2")->numbers, (std::vector<int64_t>{7, 2, 7, 2}));
}

TEST(ExpressionTest, WhatIsNoneIsRefusedWithItsPlace) {
  EXPECT_EQ(ValueOf(""), "breaks off");
  EXPECT_EQ(ValueOf("2+"), "breaks off");
  EXPECT_EQ(ValueOf("(2+3"), "breaks off");
  EXPECT_EQ(ValueOf("2 3"), "has '3' at byte 3");
  EXPECT_EQ(ValueOf("2)"), "has ')' at byte 2");
  EXPECT_EQ(ValueOf("2**3"), "has '*' at byte 3");
  EXPECT_EQ(ValueOf("2.5"), "has '.' at byte 2");
  EXPECT_EQ(ValueOf("x"), "has 'x' at byte 1");
  EXPECT_EQ(ValueOf(std::string_view("2\0", 2)), "has 0x00 at byte 2");
  EXPECT_EQ(ValueOf("2\xC3"), "has 0xc3 at byte 2");
}

TEST(ExpressionTest, NothingLeaves64Bits) {
  EXPECT_EQ(ValueOf("9223372036854775807"), "9223372036854775807");
  EXPECT_EQ(ValueOf("9223372036854775808"), "leaves 64 bits");
  EXPECT_EQ(ValueOf(std::string(400, '9')), "leaves 64 bits");
  EXPECT_EQ(ValueOf("9223372036854775807+1"), "leaves 64 bits");
  EXPECT_EQ(ValueOf("-9223372036854775807-1"), "leaves 64 bits");
  EXPECT_EQ(ValueOf("9223372036854775807*9223372036854775807"), "leaves 64 bits");
  EXPECT_EQ(ValueOf("1/9223372036854775807-1/9223372036854775806"), "leaves 64 bits");
  EXPECT_EQ(ValueOf("9223372036854775807/9223372036854775807"), "1");
}

TEST(ExpressionTest, LengthNumbersAndDepthAreBounded) {
  EXPECT_EQ(ValueOf(std::string(4097, ' ')), "has 4097 bytes; the limit is 4096");
  const auto nested = [](size_t depth) {
    return std::string(depth, '(') + "5" + std::string(depth, ')');
  };
  EXPECT_EQ(ValueOf(nested(64)), "5");
  EXPECT_EQ(ValueOf(nested(65)), "is nested deeper than 64");
  EXPECT_EQ(ValueOf(std::string(65, '-') + "5"), "is nested deeper than 64");
  std::string sum = "1";
  for (int i = 0; i < 255; ++i) sum += "+1";
  EXPECT_EQ(ValueOf(sum), "256");
  EXPECT_EQ(ValueOf(sum + "+1"), "has more than 256 numbers");
}

TEST(ExpressionTest, FractionsAreReadInLowestTerms) {
  const auto read = [](std::string_view text) {
    const absl::StatusOr<Fraction> fraction = ParseFraction(text);
    return fraction.ok() ? TextOf(*fraction) : std::string(MessageOf(fraction.status()));
  };
  EXPECT_EQ(read("22"), "22");
  EXPECT_EQ(read("-7/2"), "-7/2");
  EXPECT_EQ(read("6/4"), "3/2");
  EXPECT_EQ(read("1/0"), "divides by 0");
  EXPECT_EQ(read("1-2"), "is neither an integer nor a fraction");
  EXPECT_EQ(read("1/2/3"), "is neither an integer nor a fraction");
  EXPECT_EQ(read("2.5"), "is neither an integer nor a fraction");
  EXPECT_EQ(read("-"), "breaks off");
}

// Trees at random, written out with every parenthesis, against doubles.
TEST(ExpressionTest, RandomTreesComeToWhatDoublesSay) {
  std::mt19937_64 random(7);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<uint64_t>(n)); };
  const auto tree = [&](auto& self, int depth, double& value) -> std::string {
    if (depth == 0 || below(4) == 0) {
      const int leaf = below(20);
      value = leaf;
      return std::to_string(leaf);
    }
    double a = 0, b = 0;
    const std::string left = self(self, depth - 1, a), right = self(self, depth - 1, b);
    const char sign = "+-*/"[below(4)];
    value = sign == '+' ? a + b : sign == '-' ? a - b : sign == '*' ? a * b : a / b;
    return "(" + left + sign + right + ")";
  };
  int exact = 0;
  for (int i = 0; i < 2000; ++i) {
    double value = 0;
    const std::string text = tree(tree, 4, value);
    const absl::StatusOr<Expression> expression = Evaluate(text);
    if (!expression.ok()) {
      EXPECT_TRUE(ValueOf(text) == "divides by 0" || ValueOf(text) == "leaves 64 bits") << text;
      continue;
    }
    ++exact;
    const double said = static_cast<double>(expression->value.numerator) /
                        static_cast<double>(expression->value.denominator);
    EXPECT_NEAR(said, value, 1e-9 * (1 + std::abs(value))) << text;
  }
  EXPECT_GT(exact, 1000);
}

}  // namespace
}  // namespace conclave
