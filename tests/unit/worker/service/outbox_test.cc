#include "worker/service/outbox.h"

#include <gtest/gtest.h>

namespace conclave::worker {
namespace {

FamilyDelta Delta(int agent, int first, int count, const std::string& answer = "") {
  FamilyDelta delta;
  delta.agent = MakeAgentId(0, 0, agent);
  delta.first = first;
  delta.answer = answer;
  for (int i = 0; i < count; ++i) {
    delta.tokens.push_back(
        {.token = {.id = first + i, .logprob = 0, .top_logprob_mean = 0, .kind = {}},
         .text_end = first + i});
  }
  return delta;
}

FamilyDelta PopDelta(Outbox& outbox) { return std::get<FamilyDelta>(*outbox.Pop()); }

TEST(OutboxTest, TokensOfAnAgentMergeIntoItsPendingDelta) {
  Outbox outbox;
  outbox.Push(Delta(0, 0, 2, "ab"));
  outbox.Push(Delta(1, 0, 1, "x"));
  outbox.Push(Delta(0, 2, 3, "cde"));

  const FamilyDelta first = PopDelta(outbox);
  EXPECT_EQ(first.answer, "abcde");
  ASSERT_EQ(first.tokens.size(), 5u);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(first.tokens[static_cast<size_t>(i)].token.id, i);
  EXPECT_EQ(PopDelta(outbox).answer, "x");
  EXPECT_TRUE(outbox.empty());
}

TEST(OutboxTest, ADeltaThatHasLeftTakesNoMore) {
  Outbox outbox;
  outbox.Push(Delta(0, 0, 2));
  EXPECT_EQ(PopDelta(outbox).tokens.size(), 2u);
  outbox.Push(Delta(0, 2, 1));
  const FamilyDelta second = PopDelta(outbox);
  EXPECT_EQ(second.first, 2);
  EXPECT_EQ(second.tokens.size(), 1u);
}

TEST(OutboxTest, WhatWaitsIsOneMessageForEachAgentHoweverSlowTheReader) {
  Outbox outbox;
  for (int token = 0; token < 1000; ++token) {
    for (int agent = 0; agent < 8; ++agent) outbox.Push(Delta(agent, token, 1));
  }
  int messages = 0;
  while (outbox.Pop()) ++messages;
  EXPECT_EQ(messages, 8);
}

TEST(OutboxTest, WhatIsToldOfTokensCountsTowardsTheLimit) {
  Outbox outbox;
  constexpr int kTokens = 6000;
  for (int token = 0; token < kTokens; ++token) {
    FamilyDelta delta = Delta(0, token, 1);
    delta.tokens[0].token.told.assign(21, {.id = 1, .logprob = -1, .text = "twenty bytes or so.."});
    outbox.Push(std::move(delta));
  }
  int read = 0;
  while (!outbox.empty()) {
    size_t told = 0;
    for (const TextToken& token : PopDelta(outbox).tokens) {
      told += ToldBytes(token.token);
      ++read;
    }
    EXPECT_LT(told, Outbox::kMostTold + 1000);
  }
  EXPECT_EQ(read, kTokens);
}

TEST(OutboxTest, AMessageStaysBelowTheLimit) {
  Outbox outbox;
  const int most = static_cast<int>(Outbox::kMostTokens);
  for (int token = 0; token < 2 * most + 1; ++token) outbox.Push(Delta(0, token, 1));
  EXPECT_EQ(PopDelta(outbox).tokens.size(), Outbox::kMostTokens);
  EXPECT_EQ(PopDelta(outbox).first, most);
  EXPECT_EQ(PopDelta(outbox).tokens.size(), 1u);
}

TEST(OutboxTest, TheEndIsAFieldOfTheDeltaWithTheLastToken) {
  Outbox outbox;
  outbox.Push(Delta(0, 0, 2));
  outbox.PushEnd(MakeAgentId(0, 0, 0), 2, {.cause = Finish::kStop, .sampled = 2});
  const FamilyDelta delta = PopDelta(outbox);
  EXPECT_EQ(delta.tokens.size(), 2u);
  ASSERT_TRUE(delta.end);
  EXPECT_EQ(delta.end->sampled, 2);
}

TEST(OutboxTest, AnEndWhoseTokensHaveLeftTravelsAlone) {
  Outbox outbox;
  outbox.Push(Delta(0, 0, 2));
  outbox.Pop();
  outbox.PushEnd(MakeAgentId(0, 0, 0), 2, {.cause = Finish::kCancelled});
  const FamilyDelta delta = PopDelta(outbox);
  EXPECT_EQ(delta.first, 2);
  EXPECT_TRUE(delta.tokens.empty());
  EXPECT_EQ(delta.end->cause, Finish::kCancelled);
}

TEST(OutboxTest, TokensAreNotMovedBeforeWhatACopyAnswered) {
  Outbox outbox;
  outbox.Push(Delta(0, 0, 2));
  outbox.Push(Delta(1, 0, 1));
  outbox.Push(ProbeResult{.agent = MakeAgentId(0, 0, 0), .at = 1, .answer = "7"});
  outbox.Push(Delta(0, 2, 1));
  outbox.Push(Delta(1, 1, 1));

  EXPECT_EQ(PopDelta(outbox).tokens.size(), 2u);
  EXPECT_EQ(PopDelta(outbox).tokens.size(), 2u);
  EXPECT_EQ(std::get<ProbeResult>(*outbox.Pop()).answer, "7");
  EXPECT_EQ(PopDelta(outbox).first, 2);
  EXPECT_TRUE(outbox.empty());
}

TEST(OutboxTest, ClearForgetsEverything) {
  Outbox outbox;
  outbox.Push(Delta(0, 0, 2));
  outbox.Clear();
  EXPECT_TRUE(outbox.empty());
  outbox.Push(Delta(0, 7, 1));
  EXPECT_EQ(PopDelta(outbox).first, 7);
}

}  // namespace
}  // namespace conclave::worker
