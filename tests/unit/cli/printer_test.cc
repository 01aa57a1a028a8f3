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
using testing::StartsWith;

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

TEST_F(TextPrinterTest, TokensAreShownWithThoseBesideThem) {
  v1::GenerateResponse event = Thinking(0, "so");
  event.mutable_agent_delta()->add_tokens()->set_id(7);  // Nothing is told of it.
  v1::Token& token = *event.mutable_agent_delta()->add_tokens();
  token.set_text("so\n");
  token.set_logprob(-0.25f);
  token.add_top()->set_text("\xe2\x82");
  token.mutable_top(0)->set_logprob(-0.125f);
  token.add_top()->set_text("so\n");
  token.mutable_top(1)->set_logprob(-0.25f);
  v1::Token& forced = *event.mutable_agent_delta()->add_tokens();
  forced.set_text("</think>");
  forced.set_kind(v1::TOKEN_KIND_FORCED);
  printer_.On(event);

  EXPECT_EQ(notes_.str(),
            "agent 1     ~ \"so\\n\" -0.25 (\"\\xe2\\x82\" -0.12, \"so\\n\" -0.25)\n"
            "agent 1     ~ \"</think>\" forced\n");
}

TEST_F(TextPrinterTest, WhatStoppedAnAgentIsSaidWhereTheRequestNamedIt) {
  v1::GenerateResponse event = Finished(0, "27", 31);
  event.mutable_agent_finished()->mutable_stopped_by()->set_stop_text("\n\n");
  printer_.On(event);
  event.mutable_agent_finished()->mutable_stopped_by()->set_stop_token(5);
  printer_.On(event);
  event.mutable_agent_finished()->mutable_stopped_by()->set_end_token(2);
  printer_.On(event);

  EXPECT_THAT(notes_.str(), HasSubstr("0.93, stopped by \"\\n\\n\")\n"));
  EXPECT_THAT(notes_.str(), HasSubstr("0.93, stopped by token 5)\n"));
  EXPECT_THAT(notes_.str(), HasSubstr("0.93)\n"));
}

TEST_F(TextPrinterTest, ProbesAndTheCheckersVerdictsAreLinesOfTheirOwn) {
  printer_.On(Probed(1, 64, ""));
  printer_.On(Probed(1, 128, "44"));
  printer_.On(Verdict(1, ""));
  printer_.On(Verdict(0, "it comes to 43,\nnot 44"));

  EXPECT_EQ(notes_.str(),
            "agent 2     ? no answer yet  (asked at token 64, 9 tokens)\n"
            "agent 2     ? 44  (asked at token 128, 9 tokens)\n"
            "agent 2     ! accepted\n"
            "agent 1     ! rejected: it comes to 43, not 44\n");
}

TEST_F(TextPrinterTest, RoundsAndPartsStayInTheirColumns) {
  printer_.On(Thinking(OfRound(1, 12), "so\n"));
  printer_.On(Thinking(OfPart(0, 0), "so\n"));
  printer_.On(Thinking(kSplitter, "so\n"));

  EXPECT_EQ(notes_.str(),
            "agent 13 r2 | so\n"
            "agent 1 p1  | so\n"
            "splitter    | so\n");
}

TEST_F(TextPrinterTest, WhoMergesOrSplitsHasNoAnswerToCompare) {
  for (const uint32_t agent : {kSplitter, kSynthesiser, OfPart(1, 0)}) {
    v1::GenerateResponse event = Finished(agent, "", 12);
    event.mutable_agent_finished()->clear_answer();
    event.mutable_agent_finished()->set_probes_agreed(agent == OfPart(1, 0));
    printer_.On(event);
  }

  EXPECT_EQ(notes_.str(),
            "splitter    = done  (12 tokens, confidence 0.93)\n"
            "synthesiser = done  (12 tokens, confidence 0.93)\n"
            "agent 1 p2  = no answer  (12 tokens, confidence 0.93, its probes agreed)\n");
}

TEST_F(TextPrinterTest, WhoMergesIsNamedWhenItIsAnotherModel) {
  v1::GenerateResponse event;
  event.mutable_aggregation_started()->set_method(v1::AGGREGATION_SYNTHESISE);
  event.mutable_aggregation_started()->set_candidates(3);
  printer_.On(event);
  event.mutable_aggregation_started()->set_method(v1::AGGREGATION_SELECT);
  event.mutable_aggregation_started()->set_model("big\x1b[2J");
  printer_.On(event);

  EXPECT_EQ(notes_.str(),
            "synthesiser > merges 3 answers\n"
            "synthesiser > picks one of 3 answers, as big?[2J\n");
}

TEST_F(TextPrinterTest, TheAnswerAloneGoesToStandardOutput) {
  printer_.On(AnswerText("2"));
  printer_.On(AnswerText("7"));
  printer_.On(Completed("27"));

  EXPECT_EQ(answer_.str(), "27\n");
  EXPECT_THAT(notes_.str(), HasSubstr("receipt"));
}

TEST_F(TextPrinterTest, OnATerminalNothingIsWrittenInTheMiddleOfTheAnswersLine) {
  std::ostringstream terminal;
  TextPrinter printer(terminal, terminal, /*quiet=*/false);
  printer.On(Thinking(kSynthesiser, "57+53:\n=110"));
  printer.On(AnswerText("110", kSynthesiser));
  printer.On(VoteOf({{"7", 2}}, 0, 1));
  printer.On(AnswerText("!", kSynthesiser));
  printer.On(Completed("110!"));

  EXPECT_THAT(terminal.str(), StartsWith("synthesiser | 57+53:\n"
                                         "synthesiser | =110\n"
                                         "\n"
                                         "110\n"
                                         "vote        : 2 x 7  (0 still to come)\n"
                                         "!\n"
                                         "\n"
                                         "receipt\n"));
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

TEST_F(TextPrinterTest, CtrlCIsMentionedOnceWithWhatComesNext) {
  printer_.OnStopping();
  EXPECT_EQ(notes_.str(), "");  // It may be another thread's, and the terminal may take nothing.
  printer_.On(Thinking(0, "a\n"));
  printer_.On(Thinking(0, "b\n"));

  EXPECT_EQ(notes_.str(),
            "stopping    : the best answer so far was asked for; Ctrl-C again ends the program\n"
            "agent 1     | a\nagent 1     | b\n");
}

TEST(JsonPrinterTest, EachEventIsOneLine) {
  std::ostringstream out;
  JsonPrinter printer(out);

  printer.On(AnswerText("a\nb"));
  printer.On(Completed("a\nb"));

  EXPECT_EQ(out.str(),
            "{\"answer_delta\":{\"text\":\"a\\nb\"}}\n{\"completed\":{\"answer\":\"a\\nb\"}}\n");
}

v1::Receipt Bill() {
  v1::Receipt receipt;
  receipt.set_request_id("r1");
  receipt.set_seed(7);
  receipt.mutable_prompt()->set_total(320);
  receipt.mutable_prompt()->set_computed(40);
  receipt.mutable_prompt()->set_shared(280);
  receipt.mutable_prompt()->set_first(40);
  receipt.set_thinking_tokens(300);
  receipt.set_answer_tokens(20);
  receipt.set_aggregation_tokens(5);
  receipt.set_discarded_tokens(9);
  receipt.set_result_hash(std::string(64, 'f'));
  for (int i = 0; i < 8; ++i) receipt.add_agents()->set_cut(i == 2);
  receipt.set_agents_cut(1);
  v1::Decision& decision = *receipt.add_decisions();
  decision.set_kind(v1::Decision::KIND_DEADLINE);
  decision.set_clock(120);
  v1::Cut& cut = *decision.add_cuts();
  cut.set_agent(2);
  cut.set_kept(80);
  return receipt;
}

TEST(ReceiptTextTest, NamesEveryCostAndDecisionWithSumsThatAddUp) {
  const std::string text = ReceiptText(Bill());

  EXPECT_THAT(text, HasSubstr("agents      8 = 7 to their end + 1 cut\n"));
  EXPECT_THAT(text, HasSubstr("320 tokens = 40 computed + 280 shared; one prompt has 40\n"));
  EXPECT_THAT(text, HasSubstr("325 tokens = 300 thinking + 20 answers + 5 aggregation\n"));
  EXPECT_THAT(text, HasSubstr("discarded   9 tokens, computed past a cut\n"));
  EXPECT_THAT(text, HasSubstr("the deadline came at token 120: agent 3 keeps 80\n"));
  EXPECT_THAT(text, HasSubstr("`conclave replay FILE`"));
  EXPECT_THAT(text, Not(HasSubstr("resumed")));
}

TEST(ReceiptTextTest, RoundsPartsAndOtherModelsAreNamedWhereThereAreAny) {
  v1::Receipt receipt = Bill();
  for (const char* row : {"rounds", "parts", "ended early", "aggregator", "agents of"}) {
    EXPECT_THAT(ReceiptText(receipt), Not(HasSubstr(row)));
  }
  receipt.clear_agents();
  for (const uint32_t agent : {OfRound(0, 0), OfRound(0, 1), OfRound(1, 0), OfPart(0, 0),
                               OfPart(1, 0), OfPart(1, 1), kSynthesiser}) {
    receipt.add_agents()->set_agent(agent);
  }
  receipt.mutable_agents(1)->set_probes_agreed(true);
  receipt.mutable_agents(1)->set_model("big");
  for (const char* model : {"conclave-demo", "big", "big"}) {
    receipt.add_agent_models(model);
    receipt.add_agent_fingerprints(std::string(64, model[0]));
  }
  receipt.set_aggregator_model("big");
  receipt.set_aggregator_fingerprint(std::string(64, 'a'));

  const std::string text = ReceiptText(receipt);
  EXPECT_THAT(text, HasSubstr("aggregator  big, fingerprint aaaaaaaaaaaa\n"));
  EXPECT_THAT(text, HasSubstr("agents of   conclave-demo: 5, fingerprint cccccccccccc\n"));
  EXPECT_THAT(text, HasSubstr("agents of   big: 1, fingerprint bbbbbbbbbbbb\n"));
  EXPECT_THAT(text, HasSubstr("rounds      2, of 2 + 1 agents\n"));
  EXPECT_THAT(text, HasSubstr("parts       2, of 1 + 2 agents\n"));
  EXPECT_THAT(text, HasSubstr("ended early 1 agent, as their probes agreed\n"));
}

TEST(ReceiptTextTest, FitsTheTerminalAndLosesNothing) {
  for (const int columns : {20, 40, 80, 100, 200}) {
    std::istringstream lines(ReceiptText(Bill(), columns));
    std::string all;
    for (std::string line; std::getline(lines, line);) {
      EXPECT_LE(line.size(), static_cast<size_t>(columns - 1)) << line;
      line.erase(0, line.find_first_not_of(' '));
      all += line;
    }
    EXPECT_THAT(all, HasSubstr(std::string(64, 'f'))) << columns;
  }
}

TEST(DecisionTextTest, EveryKindIsToldInWords) {
  using D = v1::Decision;
  const auto text = [](D::Kind kind, std::vector<uint32_t> agents,
                       std::vector<std::pair<uint32_t, int>> cuts) {
    D decision;
    decision.set_kind(kind);
    decision.set_clock(9);
    for (const uint32_t agent : agents) decision.add_agents(agent);
    for (const auto& [agent, kept] : cuts) {
      decision.add_cuts()->set_agent(agent);
      decision.mutable_cuts()->rbegin()->set_kept(kept);
    }
    return DecisionText(decision);
  };
  EXPECT_EQ(text(D::KIND_JOIN, {8, 9, 10, 12}, {}),
            "more room at token 9: agents 9-11, 13 enter late");
  EXPECT_EQ(text(D::KIND_NARROW, {7}, {}), "narrowed at token 9: agent 8 stays out");
  EXPECT_EQ(text(D::KIND_DROP, {kSynthesiser}, {{kSynthesiser, 0}}),
            "given up at token 9: the synthesiser keeps 0");
  EXPECT_EQ(text(D::KIND_DROP, {0, 1}, {{0, 5}}),
            "given up at token 9: agent 2 is lost, agent 1 keeps 5");
  EXPECT_EQ(text(D::KIND_STOP_NOW, {}, {{3, 8}, {1, 8}, {2, 8}, {0, 6}}),
            "stopped by the caller at token 9: agent 1 keeps 6, agents 2-4 keep 8");
  EXPECT_EQ(AgentNames({kSynthesiser, 4, 0}), "agents 1, 5 and the synthesiser");
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
