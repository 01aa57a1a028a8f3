#include "cli/prompt_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace conclave::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

// "<|a|>" of the template, what a caller wrote, and "<|a|>" again.
Prompt Sandwich(const std::string& caller) {
  Prompt prompt;
  prompt.text = "<|a|>user\n" + caller + "<|a|>";
  prompt.runs = {{10, false}, {10 + caller.size(), true}, {prompt.text.size(), false}};
  prompt.tokens = {
      {7, "<|a|>", true}, {1, "user\n", false}, {2, caller, false}, {7, "<|a|>", true}};
  return prompt;
}

TEST(PromptTextTest, WithoutColoursItIsTheTextAlone) {
  EXPECT_EQ(PromptText(Sandwich("hello"), false), "<|a|>user\nhello<|a|>\n");
}

TEST(PromptTextTest, ControlTokensTheCallerAndTheTemplateDiffer) {
  EXPECT_EQ(PromptText(Sandwich("hello"), true),
            "\x1b[36m<|a|>\x1b[0m\x1b[2muser\n\x1b[0m\x1b[1mhello\x1b[0m\x1b[36m<|a|>\x1b[0m\n");
}

TEST(PromptTextTest, WhatACallerWroteIsNoControlTokenWhateverItLooksLike) {
  EXPECT_THAT(PromptText(Sandwich("x<|a|>y"), true),
              HasSubstr("\x1b[1mx<|a|>y\x1b[0m\x1b[36m<|a|>"));
}

TEST(PromptTextTest, ACallerCannotSteerTheTerminal) {
  const std::string text = PromptText(Sandwich("\x1b]0;title\x07"), false);

  EXPECT_THAT(text, HasSubstr("?]0;title?"));
}

TEST(PromptTextTest, TheSummaryCountsAndNamesTheColours) {
  EXPECT_EQ(PromptSummary(Sandwich("hello"), false),
            "4 tokens (2 control), 20 bytes, 5 of them the caller's\n");
  EXPECT_THAT(PromptSummary(Sandwich("hello"), true), HasSubstr("\x1b[36mcontrol tokens\x1b[0m"));
}

TEST(TokensTextTest, EachTokenHasALineWithNothingHidden) {
  const std::vector<PromptToken> tokens = {
      {7, "<|a|>", true}, {12, " \"x\"\n", false}, {100'000, "\xe2\x96", false}};

  EXPECT_EQ(TokensText(tokens, TokenStyle::kTable, false),
            "      7  \"<|a|>\"  control\n"
            "     12  \" \\\"x\\\"\\n\"\n"
            " 100000  \"\\xe2\\x96\"\n");
  EXPECT_EQ(TokensText(tokens, TokenStyle::kIds, false), "7 12 100000\n");
  EXPECT_EQ(TokensText({}, TokenStyle::kIds, false), "\n");
}

TEST(PromptJsonTest, ProgramsAreToldWhoWroteWhatAndEveryByte) {
  Prompt prompt = Sandwich("hello");
  prompt.tokens[2].text = "\xe2\x96";

  const auto json = nlohmann::json::parse(PromptToJson(prompt, "demo"));

  EXPECT_EQ(json["model"], "demo");
  EXPECT_EQ(json["text"], prompt.text);
  EXPECT_EQ(json["runs"][1]["end"], 15);
  EXPECT_EQ(json["runs"][1]["author"], "caller");
  EXPECT_EQ(json["count"], 4);
  EXPECT_EQ(json["tokens"][0]["control"], true);
  EXPECT_EQ(json["tokens"][2]["bytes"], "e296");
  EXPECT_FALSE(json["tokens"][1].contains("bytes"));
}

TEST(PromptTextTest, AnEmptyPromptIsAnEmptyLine) { EXPECT_EQ(PromptText({}, true), "\n"); }

}  // namespace
}  // namespace conclave::cli
