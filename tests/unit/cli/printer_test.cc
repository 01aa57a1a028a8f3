#include "cli/printer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "cli/receipt_text.h"
#include "tests/unit/cli/events.h"

namespace conclave::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

class TextPrinterTest : public testing::Test {
 protected:
  std::ostringstream answer_, notes_;
  TextPrinter printer_{answer_, notes_, /*quiet=*/false};
};

TEST_F(TextPrinterTest, AnAgentsTextIsShownInWholeLines) {
  printer_.On(Thinking(0, "3*5="));
  EXPECT_EQ(notes_.str(), "");

  printer_.On(Thinking(1, "12+\n"));
  printer_.On(Thinking(0, "15\n=1"));

  EXPECT_EQ(notes_.str(), "agent 2     | 12+\nagent 1     | 3*5=15\n");
}

TEST_F(TextPrinterTest, AnAgentsAnswerBeginsOnALineOfItsOwn) {
  printer_.On(Thinking(0, "=27"));
  printer_.On(Answering(0, "27\n"));

  EXPECT_EQ(notes_.str(), "agent 1     | =27\nagent 1     | 27\n");
}

TEST_F(TextPrinterTest, TheAnswerAloneGoesToStandardOutput) {
  printer_.On(AnswerText("2"));
  printer_.On(AnswerText("7"));
  printer_.On(Completed("27"));

  EXPECT_EQ(answer_.str(), "27\n");
  EXPECT_THAT(notes_.str(), HasSubstr("receipt"));
}

TEST_F(TextPrinterTest, AnAnswerWithoutDeltasIsShownAtTheEnd) {
  printer_.On(Completed("27"));

  EXPECT_EQ(answer_.str(), "27\n");
}

TEST_F(TextPrinterTest, QuietShowsNothingButTheAnswer) {
  TextPrinter quiet(answer_, notes_, /*quiet=*/true);

  quiet.On(Thinking(0, "x\n"));
  quiet.On(Completed("27"));

  EXPECT_EQ(answer_.str(), "27\n");
  EXPECT_EQ(notes_.str(), "");
}

TEST_F(TextPrinterTest, WhatAModelWroteCannotSteerTheTerminal) {
  printer_.On(AnswerText("\x1b[2Jclear\xc2\x9b!"));

  EXPECT_EQ(answer_.str(), "?[2Jclear?!");
}

TEST_F(TextPrinterTest, ARequestWithoutAnEndStillSaysWhatIsKnown) {
  printer_.On(Admitted(2));
  printer_.On(Started(0));
  printer_.On(Thinking(0, "3*5", 3));
  printer_.On(AnswerText("2"));
  printer_.OnEnd();

  EXPECT_EQ(answer_.str(), "2\n");
  EXPECT_THAT(notes_.str(), HasSubstr("agent 1     | 3*5\n"));
  EXPECT_THAT(notes_.str(), HasSubstr("no receipt came"));
}

TEST_F(TextPrinterTest, TheEndOfACompleteRequestAddsNothing) {
  printer_.On(Completed("27"));
  const std::string notes = notes_.str();
  printer_.OnEnd();

  EXPECT_EQ(answer_.str(), "27\n");
  EXPECT_EQ(notes_.str(), notes);
}

TEST(JsonPrinterTest, EachEventIsOneLine) {
  std::ostringstream out;
  JsonPrinter printer(out);

  printer.On(AnswerText("a\nb"));
  printer.On(Completed("a\nb"));

  EXPECT_EQ(out.str(),
            "{\"answer_delta\":{\"text\":\"a\\nb\"}}\n{\"completed\":{\"answer\":\"a\\nb\"}}\n");
}

TEST(ReceiptTextTest, NamesEveryCostAndDecision) {
  v1::Receipt receipt;
  receipt.mutable_prompt()->set_total(320);
  receipt.mutable_prompt()->set_computed(40);
  receipt.mutable_prompt()->set_first(40);
  receipt.set_discarded_tokens(9);
  v1::Decision& decision = *receipt.add_decisions();
  decision.set_kind(v1::Decision::KIND_DEADLINE);
  decision.set_clock(120);
  v1::Cut& cut = *decision.add_cuts();
  cut.set_agent(2);
  cut.set_kept(80);

  const std::string text = ReceiptText(receipt);

  EXPECT_THAT(text, HasSubstr("320 tokens in all, 40 computed"));
  EXPECT_THAT(text, HasSubstr("1.00 prompts of 40"));
  EXPECT_THAT(text, HasSubstr("9 discarded"));
  EXPECT_THAT(text, HasSubstr("deadline at token 120: agent 3 keeps 80"));
  EXPECT_THAT(text, Not(HasSubstr("resumed")));
}

TEST(ReceiptTextTest, TextsOfAModelCannotSteerTheTerminalNorBreakTheTable) {
  v1::Receipt receipt;
  receipt.set_model("\x1b[2J");
  receipt.add_votes()->set_answer("5\n\x1b]0;title\x07");

  const std::string text = ReceiptText(receipt);

  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(text, HasSubstr("0 for 5 ?]0;title?\n"));
}

}  // namespace
}  // namespace conclave::cli
