#include "cli/eval/suite_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/eval/procedural.h"
#include "cli/eval/protocol.h"

namespace conclave::cli {
namespace {

using testing::HasSubstr;

const SuiteRange kAll = {.seed = 1, .offset = 0, .count = 1000};

absl::StatusOr<Suite> Parse(const std::string& text, const SuiteRange& range = kAll) {
  return ParseSuite(text, "mine.jsonl", LoadPrompts()->choices, range);
}

TEST(ParseSuiteTest, ALineIsAProblem) {
  const auto suite = Parse(
      "{\"question\": \"1 + 1?\", \"answer\": 2}\n\n"
      "{\"id\": \"b\", \"question\": \"2 + 2?\", \"answer\": \"4\", \"checker\": \"number\"}");

  ASSERT_TRUE(suite.ok()) << suite.status();
  ASSERT_EQ(suite->problems.size(), 2u);
  EXPECT_EQ(suite->problems[0].id, "1");
  EXPECT_EQ(suite->problems[0].answer, "2");
  EXPECT_EQ(suite->problems[0].match, Match::kKey);
  EXPECT_EQ(suite->problems[1].id, "b");
  EXPECT_EQ(suite->problems[1].match, Match::kNumber);
  EXPECT_FALSE(suite->answer_key.has_value());
}

TEST(ParseSuiteTest, CheckersAreReadAsTheApiHasThem) {
  const auto suite = Parse(
      R"({"question": "a", "checker": {"arithmetic": {"value": "22", "numbers": [2, 11]}}}
{"question": "b", "checker": {"regex": "x+"}}
{"question": "c", "checker": {"json_schema": {"type": "object"}}})");

  ASSERT_TRUE(suite.ok()) << suite.status();
  EXPECT_EQ(suite->problems[0].checker->arithmetic().value(), "22");
  EXPECT_EQ(suite->problems[0].checker->arithmetic().numbers(1), 11);
  EXPECT_EQ(suite->problems[1].checker->regex(), "x+");
  EXPECT_EQ(suite->problems[2].checker->json_schema(), R"({"type":"object"})");
  EXPECT_EQ(suite->problems[2].match, Match::kChecker);
}

TEST(ParseSuiteTest, ChoicesAreAskedWithLettersAndTheLetterIsTheAnswer) {
  const auto suite = Parse(
      R"({"question": "Which is even?", "choices": ["one", "two", "three"], "answer": "two"}
{"question": "Which is odd?", "choices": ["one", "two"], "answer": "A"})");

  ASSERT_TRUE(suite.ok()) << suite.status();
  EXPECT_THAT(suite->problems[0].question, HasSubstr("Which is even?\n\nA) one\nB) two\nC) three"));
  EXPECT_THAT(suite->problems[0].question, HasSubstr("one of ABC."));
  EXPECT_EQ(suite->problems[0].answer, "B");
  EXPECT_EQ(suite->problems[1].answer, "A");
  ASSERT_TRUE(suite->answer_key.has_value());
  EXPECT_EQ(suite->answer_key->kind(), v1::AnswerKey::KIND_REGEX);
}

TEST(ParseSuiteTest, ARangeIsCutFromTheProblems) {
  std::string text;
  for (int i = 0; i < 10; ++i)
    text += "{\"question\": \"q" + std::to_string(i) + "\", \"answer\": 1}\n";

  const auto suite = Parse(text, {.seed = 1, .offset = 3, .count = 2});

  ASSERT_TRUE(suite.ok()) << suite.status();
  ASSERT_EQ(suite->problems.size(), 2u);
  EXPECT_EQ(suite->problems[0].question, "q3");
  EXPECT_EQ(suite->problems[0].id, "4");
}

TEST(ParseSuiteTest, WhatIsWrongIsSaidWithItsLine) {
  const std::pair<const char*, const char*> wrong[] = {
      {"{", "not valid JSON"},
      {"[1]", "no object"},
      {R"({"question": "q"})", "no \"answer\""},
      {R"({"question": 1.5e3, "answer": []})", "\"answer\" is no text"},
      {R"({"question": "q", "answer": "a", "anwser": "b"})", "\"anwser\" is unknown"},
      {R"({"question": "q", "answer": "a", "checker": "magic"})", "\"checker\" can be"},
      {R"({"question": "q", "answer": "a", "checker": {"regex": 1}})", "\"checker\" is"},
      {R"({"question": "q", "answer": "c", "choices": ["a", "b"]})", "none of the choices"},
      {R"({"question": "q", "answer": "a", "choices": ["a"]})", "2 to 26"},
      {R"({"id": "1", "question": "q", "answer": "a"})", "there twice"},
      {"{\"question\": \"\xff\", \"answer\": \"a\"}", "UTF-8"},
  };
  for (const auto& [line, what] : wrong) {
    const absl::Status status =
        Parse("{\"question\": \"ok\", \"answer\": \"ok\"}\n" + std::string(line)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << line;
    EXPECT_THAT(status.ToString(), HasSubstr("mine.jsonl:2")) << line;
    EXPECT_THAT(status.ToString(), HasSubstr(what)) << line;
  }
}

TEST(SuiteTextTest, WhatIsWrittenReadsTheSame) {
  for (const std::string name : {"target:4", "story:3", "compare"}) {
    const Suite made =
        MakeProcedural(name, *ParseProcedural(name), {.seed = 3, .offset = 5, .count = 20});

    const auto read = Parse(SuiteText(made));

    ASSERT_TRUE(read.ok()) << read.status();
    ASSERT_EQ(read->problems.size(), 20u);
    for (size_t i = 0; i < 20; ++i) {
      const Problem &a = made.problems[i], &b = read->problems[i];
      EXPECT_EQ(a.id, b.id);
      EXPECT_EQ(a.question, b.question);
      EXPECT_EQ(a.answer, b.answer);
      EXPECT_EQ(a.match, b.match);
      EXPECT_EQ(a.checker ? a.checker->SerializeAsString() : "",
                b.checker ? b.checker->SerializeAsString() : "");
    }
  }
}

}  // namespace
}  // namespace conclave::cli
