#include "common/json_parse.h"

#include <gtest/gtest.h>

#include <string>

#include "common/status.h"

namespace conclave {
namespace {

constexpr JsonLimits kLimits = {.depth = 4, .keys = 3, .values = 12};

std::string WhyNot(std::string_view text, const JsonLimits& limits = kLimits) {
  return std::string(MessageOf(ParseJsonWithin(limits, text).status()));
}

TEST(JsonParseTest, WhatKeepsWithinTheLimitsIsParsed) {
  EXPECT_EQ((*ParseJsonWithin(kLimits, R"({"a": [1, {"a": [2]}], "b": {"a": 3}})"))["b"]["a"], 3);
  EXPECT_EQ(*ParseJsonWithin(kLimits, "7"), 7);
  EXPECT_EQ(ParseOrderedJsonWithin(kLimits, R"({"b": 1, "a": 2})")->dump(), R"({"b":1,"a":2})");
}

TEST(JsonParseTest, WhatDoesNotIsRefusedWithTheLimit) {
  EXPECT_EQ(WhyNot("[[[[[]]]]]"), "is nested deeper than 4");
  EXPECT_EQ(WhyNot(R"({"a":1,"b":1,"c":1,"d":1})"), "an object has 4 keys; the limit is 3");
  EXPECT_EQ(WhyNot("[1,1,1,1,1,1,1,1,1,1,1,1]"), "has 13 values; the limit is 12");
  EXPECT_EQ(WhyNot("[[],[],[],[]]"), "has 13 values; the limit is 12");
}

TEST(JsonParseTest, WhatIsNoJsonIsRefusedWithItsPlace) {
  EXPECT_EQ(WhyNot(""), "is not valid JSON at byte 1");
  EXPECT_EQ(WhyNot(R"({"a": NaN})"), "is not valid JSON at byte 7");
  EXPECT_EQ(WhyNot("{\"a\": \"\xFF\"}"), "is not valid JSON at byte 8");
  EXPECT_EQ(WhyNot("[1] 2"), "is not valid JSON at byte 5");
  EXPECT_EQ(WhyNot("[1e999]"), "has a number that is too great");
}

TEST(JsonParseTest, AKeyThatIsThereTwiceIsNamed) {
  EXPECT_EQ(WhyNot(R"([{"a": 1}, {"b": {"a": 1, "\u0061": 2}}])"), "the key \"a\" is there twice");
  EXPECT_EQ(WhyNot("{\"\\u001b[31m\": 1, \"\\u001b[31m\": 2}"),
            "the key \"\\x1b[31m\" is there twice");
  EXPECT_EQ(WhyNot(R"({"a": 1, "a": )"), "is not valid JSON at byte 15");
  JsonLimits lenient = kLimits;
  lenient.keys_once = false;
  EXPECT_EQ(ParseOrderedJsonWithin(lenient, R"({"a": 1, "a": 2})")->dump(), R"({"a":2})");
}

}  // namespace
}  // namespace conclave
