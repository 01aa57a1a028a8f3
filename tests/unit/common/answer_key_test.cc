#include "common/answer/answer_key.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "common/status.h"

namespace conclave {
namespace {

using Kind = AnswerKeySpec::Kind;

AnswerKey Key(Kind kind, const std::string& argument = "") {
  absl::StatusOr<AnswerKey> key = AnswerKey::Parse({kind, argument});
  EXPECT_TRUE(key.ok()) << key.status();
  return *key;
}

std::string Found(const AnswerKey& key, std::string_view text) {
  return key.Extract(text).value_or("(none)");
}

TEST(NormaliseAnswerTest, GivesEverySpellingOfANumberOneForm) {
  const std::vector<std::string> spellings = {
      "1000",  " 1,000 ", "1000.0", "1,000.",  "$1,000",    "$1000.00", "+1000",
      "01000", "1e3",     "1E+3",   "10.00e2", "100000e-2", "\\$1000",  "$ 1000"};
  for (const std::string& spelling : spellings) EXPECT_EQ(NormaliseAnswer(spelling), "1000");
}

TEST(NormaliseAnswerTest, KnowsSignsAndFractions) {
  EXPECT_EQ(NormaliseAnswer("-$5.50"), "-5.5");
  EXPECT_EQ(NormaliseAnswer("$-5.50"), "-5.5");
  EXPECT_EQ(NormaliseAnswer("\xE2\x88\x92"
                            "7"),
            "-7");
  EXPECT_EQ(NormaliseAnswer(".5"), "0.5");
  EXPECT_EQ(NormaliseAnswer("-.5e-2."), "-0.005");
}

TEST(NormaliseAnswerTest, MakesNegativeZeroZero) {
  EXPECT_EQ(NormaliseAnswer("-0"), "0");
  EXPECT_EQ(NormaliseAnswer("-0.000"), "0");
  EXPECT_EQ(NormaliseAnswer("0e9"), "0");
}

TEST(NormaliseAnswerTest, KeepsHugeNumbersApart) {
  const std::string huge = "123456789012345678901234567890";
  EXPECT_EQ(NormaliseAnswer(huge + ".0"), huge);
  EXPECT_NE(NormaliseAnswer(huge), NormaliseAnswer("123456789012345678901234567891"));
}

TEST(NormaliseAnswerTest, LeavesWhatIsNoNumberAsText) {
  EXPECT_EQ(NormaliseAnswer("1,00"), "1,00");
  EXPECT_EQ(NormaliseAnswer("1234,567"), "1234,567");
  EXPECT_EQ(NormaliseAnswer("1.2.3"), "1.2.3");
  EXPECT_EQ(NormaliseAnswer("50%"), "50%");
  EXPECT_EQ(NormaliseAnswer("1e999999"), "1e999999");
  EXPECT_EQ(NormaliseAnswer("$"), "$");
  EXPECT_EQ(NormaliseAnswer("-"), "-");
}

TEST(NormaliseAnswerTest, FoldsSpaceAndCaseOfText) {
  EXPECT_EQ(NormaliseAnswer("  New \t\n York "), "new york");
  EXPECT_EQ(NormaliseAnswer(""), "");
}

TEST(AnswerKeyTest, FindsTheLastClosedBox) {
  const AnswerKey key = Key(Kind::kBoxed);
  EXPECT_EQ(Found(key, "first \\boxed{1}, then \\boxed{ 2,000 }."), "2000");
  EXPECT_EQ(Found(key, "\\boxed{\\frac{1}{2}} and \\boxed{open"), "\\frac{1}{2}");
  EXPECT_EQ(Found(key, "\\boxed{\\{1, 2\\}}"), "\\{1, 2\\}");
  EXPECT_EQ(Found(key, "\\boxed{\\boxed{5}}"), "5");
  EXPECT_EQ(Found(key, "\\boxed{4} \\boxed{ }"), "4");
  EXPECT_EQ(Found(key, "no box }"), "(none)");
}

TEST(AnswerKeyTest, FindsTheLastAnswerLineWhateverItsMarkup) {
  const AnswerKey key = Key(Kind::kAnswerLine);
  EXPECT_EQ(Found(key, "Answer: 1\nANSWER: 2\nso"), "2");
  EXPECT_EQ(Found(key, "**Answer:** 42"), "42");
  EXPECT_EQ(Found(key, "**Answer: 42.**\r\n"), "42");
  EXPECT_EQ(Found(key, " **answer**: Yes"), "yes");
  EXPECT_EQ(Found(key, "Answer: 3\nAnswer:\n"), "3");
  EXPECT_EQ(Found(key, "The answer: 3"), "(none)");
}

TEST(AnswerKeyTest, FindsTheFieldOfTheLastObjectThatHoldsIt) {
  const AnswerKey key = Key(Kind::kJsonField, "answer");
  EXPECT_EQ(Found(key, R"({"answer": 1} {"answer": "2.0"} {"other": 3})"), "2");
  EXPECT_EQ(Found(key, R"({"answer": true, "note": {"x": "}"}})"), "true");
  EXPECT_EQ(Found(key, R"({"result": {"answer": [1, "a"]}})"), R"([1,"a"])");
  EXPECT_EQ(Found(key, R"({"answer": 4} {"answer": null} {"answer": )"), "4");
  EXPECT_EQ(Found(key, R"({"other": {"x": 1}})"), "(none)");
}

TEST(AnswerKeyTest, ReadsHugeJsonNumbersExactly) {
  const AnswerKey key = Key(Kind::kJsonField, "a");
  EXPECT_EQ(Found(key, R"({"a": 123456789012345678901})"), "123456789012345678901");
  EXPECT_EQ(Found(key, R"({"a": 0.1000000000000000000001})"), "0.1000000000000000000001");
}

TEST(AnswerKeyTest, RefusesJsonNestedBeyondTheLimit) {
  const std::string deep = R"({"a": )" + std::string(100, '[') + std::string(100, ']') + "}";
  EXPECT_EQ(Found(Key(Kind::kJsonField, "a"), deep), "(none)");
}

TEST(AnswerKeyTest, TakesGroupOneOfTheLastMatch) {
  const AnswerKey key = Key(Kind::kRegex, R"(x = (\d*))");
  EXPECT_EQ(Found(key, "x = 1, x = 22; x = "), "22");
  EXPECT_EQ(Found(key, "y = 1"), "(none)");
  EXPECT_EQ(Found(Key(Kind::kRegex, "(z*)"), "azzb"), "zz");
}

TEST(AnswerKeyTest, TakesTheLastLineThatIsNotEmpty) {
  EXPECT_EQ(Found(Key(Kind::kLastLine), "one\n Two  words \n\n \n"), "two words");
  EXPECT_EQ(Found(Key(Kind::kLastLine), "\n \n"), "(none)");
}

TEST(AnswerKeyTest, TakesTheWholeText) {
  EXPECT_EQ(Found(Key(Kind::kWholeText), "\n\n 1,234\n"), "1234");
  EXPECT_EQ(Found(Key(Kind::kWholeText), " \n"), "(none)");
}

TEST(AnswerKeyTest, RefusesArgumentsThatDoNotFitTheKind) {
  const std::vector<AnswerKeySpec> wrong = {{Kind::kRegex, ""},
                                            {Kind::kJsonField, ""},
                                            {Kind::kBoxed, "x"},
                                            {Kind::kRegex, "("},
                                            {Kind::kRegex, "a"},
                                            {Kind::kRegex, "(a)(b)"},
                                            {Kind::kRegex, "(a{1000}{1000})"},
                                            {Kind::kJsonField, std::string(513, 'a')}};
  for (const AnswerKeySpec& spec : wrong) {
    EXPECT_EQ(AnswerKey::Parse(spec).status().code(), absl::StatusCode::kInvalidArgument)
        << spec.argument;
  }
}

TEST(AnswerKeyTest, LooksAtTheEndOfALongText) {
  const std::string text = "\\boxed{1}" + std::string(300 << 10, ' ') + "done";
  EXPECT_EQ(Found(Key(Kind::kBoxed), text), "(none)");
  EXPECT_EQ(Found(Key(Kind::kBoxed), text + "\\boxed{2}"), "2");
}

TEST(AnswerKeyTest, EndsOnTextsMadeToCostTime) {
  const std::string braces(256 << 10, '{');
  EXPECT_EQ(Found(Key(Kind::kJsonField, "a"), braces), "(none)");
  std::string boxes;
  for (int i = 0; i < 30'000; ++i) boxes += "\\boxed{";
  EXPECT_EQ(Found(Key(Kind::kBoxed), boxes), "(none)");
  EXPECT_EQ(Found(Key(Kind::kRegex, "(a)(?:.*z)?"), std::string(256 << 10, 'a')), "(none)");
}

TEST(AnswerKeyTest, NeverFailsOnGarbage) {
  std::mt19937 random(7);
  const std::string alphabet = "\\boxed{}{\"a\": 1,[]}\nAnswer:*-$.e\xC3\xFF";
  const std::vector<AnswerKey> keys = {Key(Kind::kBoxed),          Key(Kind::kAnswerLine),
                                       Key(Kind::kJsonField, "a"), Key(Kind::kLastLine),
                                       Key(Kind::kWholeText),      Key(Kind::kRegex, "(.)")};
  for (int round = 0; round < 2'000; ++round) {
    std::string text(random() % 60, ' ');
    for (char& c : text) c = alphabet[random() % alphabet.size()];
    for (const AnswerKey& key : keys) {
      const std::optional<std::string> answer = key.Extract(text);
      EXPECT_FALSE(answer && answer->empty());
    }
  }
}

TEST(AnswerKeyTest, APatternThatMultipliesItselfIsRefused) {
  const auto key = AnswerKey::Parse({AnswerKeySpec::Kind::kRegex, "(a)(?:(?:a?){0,1000}b)?"});
  EXPECT_EQ(key.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(MessageOf(key.status()).find("the limit is 500"), std::string_view::npos);
}

TEST(AnswerKeyTest, WhatAPatternMayCostIsBounded) {
  const auto key = AnswerKey::Parse({AnswerKeySpec::Kind::kRegex, "(a)(?:(?:a?){0,100}b)?"});
  ASSERT_TRUE(key.ok()) << key.status();
  EXPECT_EQ(key->Extract(std::string(3'000, 'a')), std::nullopt);
  EXPECT_EQ(key->Extract("aab"), "a");
}

}  // namespace
}  // namespace conclave
