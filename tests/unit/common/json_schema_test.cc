#include "common/answer/json_schema.h"

#include <gtest/gtest.h>

#include <string>

#include "common/status.h"

namespace conclave {
namespace {

std::string Parsed(std::string_view schema) {
  return std::string(MessageOf(JsonSchema::Parse(schema).status()));
}

// "" when it is accepted.
std::string Checked(std::string_view schema, std::string_view text) {
  const absl::StatusOr<JsonSchema> parsed = JsonSchema::Parse(schema);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return parsed.ok() ? std::string(MessageOf(parsed->Check(text))) : "no schema";
}

TEST(JsonSchemaTest, TypesAreTold) {
  EXPECT_EQ(Checked("{}", "[null]"), "");
  EXPECT_EQ(Checked(R"({"type": "integer"})", "7"), "");
  EXPECT_EQ(Checked(R"({"type": "integer"})", "7.0"), "");
  EXPECT_EQ(Checked(R"({"type": "integer"})", "7.5"), "is number, not integer");
  EXPECT_EQ(Checked(R"({"type": "number"})", "7"), "");
  EXPECT_EQ(Checked(R"({"type": ["string", "null"]})", "null"), "");
  EXPECT_EQ(Checked(R"({"type": ["string", "null"]})", "[]"), "is array, not null or string");
  EXPECT_EQ(Checked(R"({"type": "boolean"})", "\"true\""), "is string, not boolean");
}

TEST(JsonSchemaTest, EnumAndConstCompareWholeValues) {
  EXPECT_EQ(Checked(R"({"enum": ["a", 1, {"x": [1, 2]}]})", R"({"x": [1.0, 2]})"), "");
  EXPECT_EQ(Checked(R"({"enum": ["a", 1]})", "\"A\""), "is none of the values");
  EXPECT_EQ(Checked(R"({"const": {"x": 1, "y": 2}})", R"({"y": 2, "x": 1})"), "");
  EXPECT_EQ(Checked(R"({"const": {"x": 1}})", R"({"z": 1})"), "is not the one value");
  EXPECT_EQ(Checked(R"({"const": null})", "null"), "");
  EXPECT_EQ(Checked(R"({"const": null})", "0"), "is not the one value");
}

TEST(JsonSchemaTest, NumbersAreComparedExactly) {
  EXPECT_EQ(Checked(R"({"minimum": 9007199254740993})", "9007199254740992"),
            "is below 9007199254740993");
  EXPECT_EQ(Checked(R"({"minimum": -1})", "18446744073709551615"), "");
  EXPECT_EQ(Checked(R"({"const": -1})", "18446744073709551615"), "is not the one value");
  EXPECT_EQ(Checked(R"({"maximum": 0.5})", "0.75"), "is above 0.5");
  EXPECT_EQ(Checked(R"({"minimum": 3, "maximum": 3})", "3.0"), "");
  EXPECT_EQ(Checked(R"({"minimum": 3})", "\"2\""), "") << "not a number: not its business";
}

TEST(JsonSchemaTest, ObjectsHaveTheMembersThatTheyMust) {
  const std::string schema = R"({"type": "object", "required": ["name"],
      "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
      "additionalProperties": false})";
  EXPECT_EQ(Checked(schema, R"({"name": "Mia", "age": 7})"), "");
  EXPECT_EQ(Checked(schema, R"({"age": 7})"), "lacks \"name\"");
  EXPECT_EQ(Checked(schema, R"({"name": "Mia", "age": "7"})"), "is string, not integer at /age");
  EXPECT_EQ(Checked(schema, R"({"name": "Mia", "x": 1})"), "may not be there at /x");
  EXPECT_EQ(Checked(R"({"additionalProperties": {"type": "null"}})", R"({"a": null, "b": 1})"),
            "is integer, not null at /b");
  EXPECT_EQ(Checked(schema, R"({"name": "Mia", "name": 1})"), "the key \"name\" is there twice");
}

TEST(JsonSchemaTest, ListsAreLookedThrough) {
  const std::string schema =
      R"({"items": {"items": {"type": "integer"}}, "minItems": 1, "maxItems": 2})";
  EXPECT_EQ(Checked(schema, "[[1, 2], []]"), "");
  EXPECT_EQ(Checked(schema, "[]"), "has 0 items; the least is 1");
  EXPECT_EQ(Checked(schema, "[1, 2, 3]"), "has 3 items; the most is 2");
  EXPECT_EQ(Checked(schema, R"([[], [0, "1"]])"), "is string, not integer at /1/1");
}

TEST(JsonSchemaTest, StringsAreCountedInCharacters) {
  EXPECT_EQ(Checked(R"({"maxLength": 2})", "\"\xC3\xB6\xF0\x9F\x98\x80\""), "");
  EXPECT_EQ(Checked(R"({"maxLength": 2})", "\"abc\""), "has 3 characters; the most is 2");
  EXPECT_EQ(Checked(R"({"minLength": 1})", "\"\""), "has 0 characters; the least is 1");
  EXPECT_EQ(Checked(R"({"pattern": "b+"})", "\"abbc\""), "") << "found anywhere";
  EXPECT_EQ(Checked(R"({"pattern": "^b+$"})", "\"abbc\""), "does not match the pattern");
}

TEST(JsonSchemaTest, AFenceAroundTheAnswerIsNoPartOfIt) {
  EXPECT_EQ(Checked(R"({"type": "array"})", "```json\n[1]\n```\n"), "");
  EXPECT_EQ(Checked(R"({"type": "array"})", "```\n[1]\n```"), "");
  EXPECT_EQ(Checked("{}", "[1] or so"), "is not valid JSON at byte 5");
  EXPECT_EQ(Checked("{}", "``````"), "is not valid JSON at byte 1");
  EXPECT_EQ(Checked("{}", ""), "is not valid JSON at byte 1");
}

TEST(JsonSchemaTest, WhatIsNotKnownIsRefusedWithItsPlace) {
  EXPECT_EQ(Parsed(R"({"properties": {"a": {"format": "date"}}})"),
            "is wrong at /properties/a/format: it is no keyword that is known here");
  EXPECT_EQ(Parsed(R"({"items": [{}]})"), "is wrong at /items: a schema is an object");
  EXPECT_EQ(Parsed("true"), "is wrong at /: a schema is an object");
  EXPECT_EQ(Parsed(R"({"type": "int"})"),
            "is wrong at /type: a type is null, boolean, object, array, number, integer or string");
  EXPECT_EQ(Parsed(R"({"type": []})"), "is wrong at /type: it names no type");
  EXPECT_EQ(Parsed(R"({"enum": []})"), "is wrong at /enum: it is a list of values");
  EXPECT_EQ(Parsed(R"({"required": [1]})"), "is wrong at /required: it is a list of names");
  EXPECT_EQ(Parsed(R"({"properties": []})"), "is wrong at /properties: it is an object of schemas");
  EXPECT_EQ(Parsed(R"({"minItems": -1})"),
            "is wrong at /minItems: it is a whole number, 0 or more");
  EXPECT_EQ(Parsed(R"({"maxLength": 1.5})"),
            "is wrong at /maxLength: it is a whole number, 0 or more");
  EXPECT_EQ(Parsed(R"({"minimum": "1"})"), "is wrong at /minimum: it is a number");
  EXPECT_EQ(Parsed(R"({"pattern": 1})"), "is wrong at /pattern: it is a string");
  EXPECT_EQ(Parsed(R"({"pattern": "("})"), "is wrong at /pattern: is not valid: missing ): (");
  EXPECT_EQ(Parsed(R"({"type": "array", "type": "object"})"), "the key \"type\" is there twice");
  EXPECT_EQ(Parsed("{"), "is not valid JSON at byte 2");
  EXPECT_EQ(Parsed(R"({"title": "A", "description": "b", "$schema": "c"})"), "");
}

TEST(JsonSchemaTest, SizeDepthAndPatternsAreBounded) {
  EXPECT_EQ(Parsed(std::string(70'000, ' ')), "has 70000 bytes; the limit is 65536");
  std::string deep = "{}";
  for (int i = 0; i < 31; ++i) deep = R"({"items": )" + deep + "}";
  EXPECT_EQ(Parsed(deep), "");
  EXPECT_EQ(Parsed(R"({"items": )" + deep + "}"), "is nested deeper than 32");
  std::string patterns;
  for (char c = 'a'; c < 'a' + 17; ++c) {
    patterns += std::string(patterns.empty() ? "\"" : ", \"") + c + R"(": {"pattern": "x"})";
  }
  EXPECT_EQ(Parsed(R"({"properties": {)" + patterns + "}}"),
            "is wrong at /properties/q/pattern: there are more than 16 patterns");
  const std::string steps = Parsed(R"({"pattern": "(a{30}){30}"})");
  EXPECT_EQ(steps.substr(0, 27), "is wrong at /pattern: makes") << steps;
  EXPECT_EQ(Checked("{}", std::string(300'000, ' ') + "1"), "");
  EXPECT_EQ(Checked("{}", "\"" + std::string(300'000, 'a') + "\""),
            "has 300002 bytes; the limit is 262144");
  EXPECT_EQ(Checked("{}", std::string(65, '[') + std::string(65, ']')), "is nested deeper than 64");
}

TEST(JsonSchemaTest, WhatTakesTooLongIsRejected) {
  std::string choices;
  for (int i = 0; i < 4000; ++i) choices += std::to_string(i + 10) + ",";
  std::string items;
  for (int i = 0; i < 20'000; ++i) items += "5,";
  choices.pop_back();
  items.pop_back();
  EXPECT_EQ(Checked(R"({"items": {"enum": [)" + choices + ",5]}}", "[" + items + "]"),
            "takes too long to check");
  EXPECT_EQ(Checked(R"({"pattern": "(a{20}){20}b"})", "\"" + std::string(200'000, 'a') + "\""),
            "takes too long to check");
}

}  // namespace
}  // namespace conclave
