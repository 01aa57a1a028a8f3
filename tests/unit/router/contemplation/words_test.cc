#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <variant>
#include <vector>

#include "router/contemplation/aggregation.h"
#include "router/contemplation/client_outbox.h"
#include "router/contemplation/decision_script.h"
#include "router/contemplation/receipt.h"
#include "router/contemplation/transcript.h"

namespace conclave::router {
namespace {

AgentId A(int index) { return MakeAgentId(kThinkStage, 0, index); }

FamilyDelta Said(int first, const std::vector<int64_t>& ends, std::string thinking,
                 std::string answer) {
  FamilyDelta delta;
  delta.agent = A(0);
  delta.first = first;
  delta.thinking = std::move(thinking);
  delta.answer = std::move(answer);
  for (size_t i = 0; i < ends.size(); ++i) {
    TextToken token;
    token.token.id = first + static_cast<int>(i) + 100;
    token.text_end = ends[i];
    delta.tokens.push_back(token);
  }
  return delta;
}

TEST(TranscriptTest, TextIsCutAtAnyToken) {
  Transcript transcript;
  ASSERT_TRUE(transcript.Append(Said(0, {2, 5, 7, 7}, "hm...", "42")).ok());
  EXPECT_EQ(transcript.count(), 4);
  EXPECT_EQ(transcript.AnswerAt(2), "");
  EXPECT_EQ(transcript.AnswerAt(3), "42");
  EXPECT_EQ(transcript.ThinkingAt(4, Thinking::kOn), 2);
}

TEST(TranscriptTest, TokensThatAreRepeatedAfterAResumptionBringNothingTwice) {
  Transcript transcript;
  ASSERT_TRUE(transcript.Append(Said(0, {1, 2}, "ab", "")).ok());
  const auto again = transcript.Append(Said(1, {2, 3}, "bc", ""));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->first, 2);
  EXPECT_EQ(again->thinking, "c");
  EXPECT_EQ(transcript.count(), 3);
}

TEST(TranscriptTest, AGapIsDataLossAndNothingIsTaken) {
  Transcript transcript;
  ASSERT_TRUE(transcript.Append(Said(0, {1}, "a", "")).ok());
  EXPECT_EQ(transcript.Append(Said(2, {3}, "c", "")).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(transcript.count(), 1);
}

TEST(TranscriptTest, ARepeatedTokenThatDiffersIsDataLoss) {
  Transcript transcript;
  ASSERT_TRUE(transcript.Append(Said(0, {1, 2}, "ab", "")).ok());
  FamilyDelta other = Said(1, {2}, "b", "");
  other.tokens[0].token.id = 5;
  EXPECT_EQ(transcript.Append(other).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(transcript.count(), 2);
}

// It passes through once, and is not kept.
TEST(TranscriptTest, WhatIsToldOfTokensComesWithTheNewOnes) {
  Transcript transcript;
  FamilyDelta delta = Said(0, {1, 2}, "ab", "");
  for (TextToken& token : delta.tokens) token.token.told = {{.id = token.token.id}};
  ASSERT_EQ(transcript.Append(delta)->tokens.size(), 2u);
  FamilyDelta again = Said(1, {2, 3}, "bc", "");
  for (TextToken& token : again.tokens) token.token.told = {{.id = token.token.id}};

  const auto fresh = transcript.Append(again);

  ASSERT_TRUE(fresh.ok()) << fresh.status();
  ASSERT_EQ(fresh->tokens.size(), 1u);
  EXPECT_EQ(fresh->tokens[0].token.told.at(0).id, 102);
  for (const TokenEvent& token : transcript.Produced()) EXPECT_TRUE(token.told.empty());
}

TEST(TranscriptTest, ThinkingWasForcedWhereATokenWasPut) {
  Transcript transcript;
  FamilyDelta delta = Said(0, {1, 1, 2}, "a", "7");
  delta.tokens[1].token.kind = TokenKind::kForced;
  ASSERT_TRUE(transcript.Append(delta).ok());

  EXPECT_FALSE(transcript.ForcedAt(1));
  EXPECT_TRUE(transcript.ForcedAt(2));
  EXPECT_TRUE(transcript.ForcedAt(3));
}

TEST(OutboxTest, WhatIsToldOfTokensCountsTowardsTheLimit) {
  ClientOutbox outbox;
  size_t pushed = 0;
  for (const size_t tokens : {1, 300, 2000, 5}) {
    AgentDelta delta{.thinking = "", .answer = "", .tokens = {}, .count = 1};
    for (size_t i = 0; i < tokens; ++i) {
      TokenEvent& token = delta.tokens.emplace_back();
      token.told.assign(21, {.id = 1, .logprob = -1, .text = std::string(40, 'x')});
    }
    pushed += tokens;
    outbox.Push({.sequence = 0, .agent = A(0), .what = std::move(delta)});
  }
  size_t read = 0;
  int events = 0;
  while (const auto event = outbox.Pop()) {
    size_t size = 0;
    for (const TokenEvent& token : std::get<AgentDelta>(event->what).tokens) {
      size += ClientOutbox::kTokenBytes + ToldBytes(token);
      ++read;
    }
    EXPECT_LE(size, ClientOutbox::kMostDelta);
    ++events;
  }
  EXPECT_EQ(read, pushed);
  EXPECT_EQ(events, 4);
}

TEST(OutboxTest, ASlowReaderFindsDeltasMergedAndLosesNothing) {
  ClientOutbox outbox;
  for (int i = 0; i < 100; ++i) {
    for (int agent = 0; agent < 3; ++agent) {
      AgentDelta delta;
      delta.thinking = std::to_string(i % 10);
      delta.count = i + 1;  // Tokens of the agent in all.
      outbox.Push({.sequence = 0, .agent = A(agent), .what = delta});
    }
  }
  outbox.Push({.sequence = 0, .agent = A(1), .what = AgentFinished{}});
  std::vector<std::string> thought(3);
  int64_t sequence = 0;
  int events = 0;
  while (const auto event = outbox.Pop()) {
    EXPECT_EQ(event->sequence, ++sequence);
    ++events;
    if (const auto* delta = std::get_if<AgentDelta>(&event->what)) {
      thought[static_cast<size_t>(IndexOf(event->agent))] += delta->thinking;
      EXPECT_EQ(delta->count, 100);
    }
  }
  EXPECT_EQ(events, 4) << "memory is bounded by agents, not by deltas";
  for (const std::string& text : thought) EXPECT_EQ(text.size(), 100u);
}

TEST(OutboxTest, ADeltaNeverOvertakesTheEndOfItsAgent) {
  ClientOutbox outbox;
  outbox.Push({.sequence = 0, .agent = A(0), .what = AnswerDelta{.text = "a"}});
  outbox.Push({.sequence = 0, .agent = A(0), .what = AgentFinished{}});
  EXPECT_TRUE(std::holds_alternative<AnswerDelta>(outbox.Pop()->what));
  outbox.Push({.sequence = 0, .agent = A(0), .what = AnswerDelta{.text = "b"}});
  EXPECT_TRUE(std::holds_alternative<AgentFinished>(outbox.Pop()->what));
  EXPECT_EQ(std::get<AnswerDelta>(outbox.Pop()->what).text, "b");
  EXPECT_TRUE(outbox.empty());
}

TEST(OutboxTest, HoweverSlowTheReaderAMessageStaysBelowItsLimit) {
  ClientOutbox outbox;
  const auto thinks = [&](const std::string& text, size_t tokens) {
    AgentDelta delta{.thinking = text, .answer = "", .tokens = {}, .count = 1};
    delta.tokens.resize(tokens);
    outbox.Push({.sequence = 0, .agent = A(0), .what = std::move(delta)});
  };
  std::string thought;
  size_t tokens = 0;
  for (int i = 0; i < 40; ++i) {
    const std::string text(100'000, static_cast<char>('a' + i % 26));
    thinks(text, 5000);
    thought += text;
    tokens += 5000;
  }
  std::string answer;
  for (int i = 0; i < 1'000'000; ++i) answer += "\u20ac";  // 3 bytes, none a divisor of the limit.
  outbox.Push({.sequence = 0, .agent = A(1), .what = AnswerDelta{.text = answer}});
  outbox.Push({.sequence = 0, .agent = A(1), .what = AnswerDelta{.text = "!"}});
  thinks(std::string(ClientOutbox::kMostDelta + 1, 'z'), 100'000);  // All at once.
  thought += std::string(ClientOutbox::kMostDelta + 1, 'z');
  tokens += 100'000;

  std::string read_thought, read_answer;
  size_t read_tokens = 0;
  for (int64_t sequence = 1; const auto event = outbox.Pop(); ++sequence) {
    EXPECT_EQ(event->sequence, sequence);
    size_t size = 0;
    if (const auto* delta = std::get_if<AgentDelta>(&event->what)) {
      read_thought += delta->thinking;
      read_tokens += delta->tokens.size();
      size = delta->thinking.size() + ClientOutbox::kTokenBytes * delta->tokens.size();
    } else {
      const std::string& text = std::get<AnswerDelta>(event->what).text;
      EXPECT_NE(static_cast<unsigned char>(text.front()) & 0xc0u, 0x80u) << "half a character";
      read_answer += text;
      size = text.size();
    }
    EXPECT_LE(size, ClientOutbox::kMostDelta);
  }
  EXPECT_EQ(read_thought, thought);
  EXPECT_EQ(read_tokens, tokens);
  EXPECT_EQ(read_answer, answer + "!");
}

Ballot Votes(const std::vector<std::string>& answers) {
  Ballot ballot;
  for (size_t i = 0; i < answers.size(); ++i) ballot.Add(A(static_cast<int>(i)), answers[i]);
  return ballot;
}

TEST(AggregationTest, TheVoteIsSureOnlyWhereOneAnswerLeads) {
  const auto sure = [](const std::vector<std::string>& answers, int counted) {
    return VoteIsSure(Votes(answers), counted, false, VoteWeight::kOne);
  };
  EXPECT_TRUE(sure({"a", "a", "b"}, 3));
  EXPECT_TRUE(sure({"a"}, 1));
  EXPECT_FALSE(sure({"a"}, 3)) << "one vote among several agents";
  EXPECT_FALSE(sure({"a", "b"}, 2)) << "a tie";
  EXPECT_FALSE(sure({"a", "a", "b", "b", "c"}, 5));
  EXPECT_FALSE(sure({}, 2));
}

TEST(AggregationTest, AWeighedVoteIsSureOfOneThatLeadsOthers) {
  constexpr auto kWeight = VoteWeight::kTraceProbability;
  Ballot ballot;
  EXPECT_FALSE(VoteIsSure(ballot, 2, false, kWeight));
  ballot.Add(A(0), "a", 0.5);
  EXPECT_TRUE(VoteIsSure(ballot, 1, false, kWeight));
  EXPECT_FALSE(VoteIsSure(ballot, 3, false, kWeight)) << "one vote among several agents";
  ballot.Add(A(1), "b", 0.5);
  EXPECT_FALSE(VoteIsSure(ballot, 2, false, kWeight)) << "a tie";
  ballot.Add(A(2), "c", 0.75);
  EXPECT_TRUE(VoteIsSure(ballot, 3, false, kWeight));
  EXPECT_FALSE(VoteIsSure(ballot, 3, true, kWeight)) << "none was accepted";
  EXPECT_FALSE(VoteIsSure(ballot, 6, false, kWeight)) << "half of them did not vote";
  ballot.Add(A(3), std::string(65, 'd'), 0.25);
  EXPECT_FALSE(VoteIsSure(ballot, 4, false, kWeight)) << "texts are not said twice";
}

TEST(AggregationTest, CandidatesAreEachAnswerOnceThenInProportionToVotes) {
  const Ballot ballot = Votes({"7", "5", "7", "7"});
  const std::vector<CountedAnswer> counted = {{A(0), "it is 7", true},
                                              {A(1), "5!", true},
                                              {A(4), "no idea", false},
                                              {A(2), "seven: 7", true},
                                              {A(3), "7.", true}};
  EXPECT_EQ(Candidates(ballot, counted, 8),
            (std::vector<std::string>{"it is 7", "5!", "no idea", "seven: 7", "7."}));
  EXPECT_EQ(Candidates(ballot, counted, 2), (std::vector<std::string>{"it is 7", "5!"}));
}

TEST(AggregationTest, PlaceholdersInWhatAgentsWroteStayAsTheyAre) {
  PromptProfile profile;
  profile.aggregate_text = "Q {question} C {candidates}";
  profile.candidate_line = "({index}) {answer};";
  const std::vector<Message> messages = {
      {.role = Role::kUser, .parts = {{.text = "is {candidates} a word?"}}}};
  const auto made = AggregationMessages(profile, messages, {"{question}", "{index} {answer}"});
  const std::string& text = made.back().parts.back().text;
  EXPECT_NE(text.find("Q is {candidates} a word? C"), std::string::npos) << text;
  EXPECT_NE(text.find("(1) {question};"), std::string::npos) << text;
  EXPECT_NE(text.find("(2) {index} {answer};"), std::string::npos) << text;
}

TEST(ReceiptTest, TheHashDependsOnTokensVotesAndAnswerAndOnNothingElse) {
  Transcript one, two;
  ASSERT_TRUE(one.Append(Said(0, {1, 2}, "ab", "")).ok());
  ASSERT_TRUE(two.Append(Said(0, {1, 2, 3}, "abc", "")).ok());
  const std::vector<Vote> votes = {{"7", 2, 2}};
  const std::string hash = ResultHash({{A(0), &one, 2}}, votes, VoteWeight::kOne, "7");
  EXPECT_EQ(hash.size(), 64u);
  EXPECT_EQ(ResultHash({{A(0), &two, 2}, {A(1), &one, 0}}, votes, VoteWeight::kOne, "7"), hash)
      << "discarded tokens and agents that keep nothing are no part of the result";
  EXPECT_NE(ResultHash({{A(0), &one, 1}}, votes, VoteWeight::kOne, "7"), hash);
  EXPECT_NE(ResultHash({{A(1), &one, 2}}, votes, VoteWeight::kOne, "7"), hash);
  EXPECT_NE(ResultHash({{A(0), &one, 2}}, votes, VoteWeight::kOne, "8"), hash);
  EXPECT_NE(ResultHash({{A(0), &one, 2}}, {{"7", 3, 3}}, VoteWeight::kOne, "7"), hash);
}

TEST(ReceiptTest, TheWeightsOfAWeightedVoteAreInTheHashAndThoseOfAPlainOneAreNot) {
  const auto hash = [](double weight, VoteWeight kind) {
    return ResultHash({}, {{"7", weight, 2}}, kind, "7");
  };
  EXPECT_EQ(hash(2, VoteWeight::kOne), hash(1.5, VoteWeight::kOne));
  EXPECT_NE(hash(2, VoteWeight::kTop20Mean), hash(2, VoteWeight::kOne));
  EXPECT_NE(hash(1, VoteWeight::kTop20Mean), hash(1 + 0x1p-52, VoteWeight::kTop20Mean));
}

TEST(ReceiptTest, ThePromptsBillAddsUpWhateverWasRunAgain) {
  PromptBill bill;
  for (int i = 0; i < 4; ++i) bill.Accepted(A(i), 10);
  bill.Lost();
  for (int i = 0; i < 4; ++i) bill.Accepted(A(i), 10);
  bill.Ended({.prompt_computed = 10, .prompt_shared = 30});
  const PromptUsage usage = bill.usage();
  EXPECT_EQ(usage.total, 40);
  EXPECT_EQ(usage.computed + usage.shared, usage.total);
  EXPECT_EQ(usage.recomputed, 10);
  EXPECT_TRUE(bill.incomplete());
}

TEST(ReceiptTest, TheFirstPromptIsThatOfWhoWasTakenInFirst) {
  PromptBill bill;
  bill.Accepted(MakeAgentId(kSplitStage, 0, 0), 30);
  bill.Accepted(MakeAgentId(kPartStage, 0, 0), 20);
  bill.Accepted(MakeAgentId(kAggregateStage, 0, 0), 90);
  bill.Ended({.prompt_computed = 140});
  EXPECT_EQ(bill.usage().first, 30);
}

using Kind = Decision::Kind;

Decision Made(int number, Kind kind, int64_t clock, std::vector<AgentId> agents,
              std::vector<Cut> cuts = {}) {
  return {.number = number,
          .kind = kind,
          .clock = clock,
          .agents = std::move(agents),
          .cuts = std::move(cuts)};
}

struct Script {
  std::string name;
  std::vector<Decision> decisions;
};

class BadScriptTest : public testing::TestWithParam<Script> {};

TEST_P(BadScriptTest, IsRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(
      DecisionScript::Check(GetParam().decisions, {.agents = 4, .first = 4}, 50)));
}

INSTANTIATE_TEST_SUITE_P(
    Rows, BadScriptTest,
    testing::Values(Script{"numbers from 1", {Made(2, Kind::kJoin, 0, {A(1)})}},
                    Script{"clock goes back",
                           {Made(1, Kind::kJoin, 9, {A(1)}), Made(2, Kind::kJoin, 8, {A(2)})}},
                    Script{"negative clock", {Made(1, Kind::kJoin, -1, {A(1)})}},
                    Script{"not planned", {Made(1, Kind::kJoin, 0, {A(4)})}},
                    Script{"joins twice",
                           {Made(1, Kind::kJoin, 0, {A(1)}), Made(2, Kind::kJoin, 3, {A(1)})}},
                    Script{"drop of nobody", {Made(1, Kind::kDrop, 5, {})}},
                    Script{"join of nobody", {Made(1, Kind::kJoin, 5, {})}},
                    Script{"narrow of nobody", {Made(1, Kind::kNarrow, 5, {})}},
                    Script{"cut beyond the most", {Made(1, Kind::kDeadline, 5, {}, {{A(0), 51}})}},
                    Script{"cut of a join", {Made(1, Kind::kJoin, 5, {A(1)}, {{A(0), 5}})}},
                    Script{"cut twice", {Made(1, Kind::kDeadline, 5, {}, {{A(0), 5}, {A(0), 5}})}}),
    [](const auto& row) {
      std::string name = row.param.name;
      for (char& c : name) c = c == ' ' ? '_' : c;
      return name;
    });

TEST(DecisionScriptTest, KnowsWhoStartsWithTheFirstGang) {
  const std::vector<Decision> decisions = {Made(1, Kind::kJoin, 4, {A(2)}),
                                           Made(2, Kind::kNarrow, 6, {A(3)}),
                                           Made(3, Kind::kDrop, 9, {A(1)}, {{A(1), 9}})};
  ASSERT_TRUE(DecisionScript::Check(decisions, {.agents = 4, .first = 4}, 50).ok());
  const DecisionScript script(decisions);
  EXPECT_TRUE(script.Starts(A(0)));
  EXPECT_TRUE(script.Starts(A(1)));
  EXPECT_FALSE(script.Starts(A(2)));
  EXPECT_FALSE(script.Starts(A(3)));
  EXPECT_EQ(script.CutOf(A(1)), 9);
  EXPECT_EQ(script.CutOf(A(0)), std::nullopt);
}

}  // namespace
}  // namespace conclave::router
