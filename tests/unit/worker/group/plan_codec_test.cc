#include "worker/group/plan_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "worker/group/agreement.h"

namespace conclave::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::Lt;

TimedPlan FullPlan() {
  StepPlan plan;
  plan.number = 77;
  plan.slots.resize(4);
  SlotChange& open = plan.slots[0];
  open.kind = SlotChange::Kind::kOpen;
  open.slot = 5;
  open.seed = 0xfedcba9876543210;
  open.agent = MakeAgentId(1, 2, 3);
  open.sampling = {.repetition_penalty = 1.1f,
                   .presence_penalty = -0.5f,
                   .frequency_penalty = 0.25f,
                   .logit_bias = {{17, -100.f}, {2, 1.5f}},
                   .temperature = 0.7f,
                   .top_k = 40,
                   .top_p = 0.9f,
                   .min_p = 0.05f};
  open.rules = {.barred = {7, 128'009}, .barred_until = 12, .top_logprobs = 20};
  open.history = {1, 2, 300'000};
  open.position = 2;
  open.blocks = {{0, 1, 2}, {}, {9}};
  plan.slots[1].kind = SlotChange::Kind::kAppend;
  plan.slots[1].slot = 6;
  plan.slots[1].blocks = {{12}};
  plan.slots[2].kind = SlotChange::Kind::kTruncate;
  plan.slots[2].position = 1234;
  plan.slots[3].kind = SlotChange::Kind::kClose;
  plan.slots[3].slot = 7;
  plan.copies = {{.pool = 1, .from = 3, .to = 4, .tokens = 11}};
  plan.rows = {{.slot = 5, .position = 0, .token = 9}, {.slot = 6, .token = kPreviousSample}};
  plan.samples = {{.row = 1, .slot = 6, .index = 42}, {.row = 1, .slot = 5, .index = 0}};
  return {.plan = plan, .patience = absl::Milliseconds(5'123)};
}

StepResult FullResult() {
  return {.number = 9,
          .tokens = {{.id = 5,
                      .logprob = -0.25f,
                      .top_logprob_mean = -3.5f,
                      .told = {{.id = 5, .logprob = -0.25f, .text = "ab\xff"}, {.id = 9}}},
                     {.id = 0, .kind = TokenKind::kForced}}};
}

TEST(PlanCodecTest, APlanTravelsWhole) {
  const TimedPlan sent = FullPlan();

  auto timed = DecodePlan(EncodePlan(sent));

  ASSERT_TRUE(timed.ok()) << timed.status();
  EXPECT_EQ(timed->patience, sent.patience);
  const StepPlan& plan = timed->plan;
  EXPECT_EQ(plan.number, 77u);
  ASSERT_EQ(plan.slots.size(), 4u);
  EXPECT_EQ(plan.slots[0].slot, 5);
  EXPECT_EQ(plan.slots[0].seed, 0xfedcba9876543210);
  EXPECT_EQ(plan.slots[0].agent, MakeAgentId(1, 2, 3));
  EXPECT_EQ(plan.slots[0].sampling, sent.plan.slots[0].sampling);
  EXPECT_EQ(plan.slots[0].rules, sent.plan.slots[0].rules);
  EXPECT_THAT(plan.slots[0].history, ElementsAre(1, 2, 300'000));
  EXPECT_EQ(plan.slots[0].position, 2);
  EXPECT_EQ(plan.slots[0].blocks, sent.plan.slots[0].blocks);
  EXPECT_EQ(plan.slots[1].kind, SlotChange::Kind::kAppend);
  EXPECT_EQ(plan.slots[1].blocks, sent.plan.slots[1].blocks);
  EXPECT_EQ(plan.slots[2].kind, SlotChange::Kind::kTruncate);
  EXPECT_EQ(plan.slots[2].position, 1234);
  EXPECT_EQ(plan.slots[3].kind, SlotChange::Kind::kClose);
  EXPECT_EQ(plan.slots[3].slot, 7);
}

TEST(PlanCodecTest, CopiesRowsAndSamplesTravelWhole) {
  auto timed = DecodePlan(EncodePlan(FullPlan()));

  ASSERT_TRUE(timed.ok()) << timed.status();
  ASSERT_EQ(timed->plan.copies.size(), 1u);
  EXPECT_EQ(timed->plan.copies[0].from, 3);
  EXPECT_EQ(timed->plan.copies[0].tokens, 11);
  ASSERT_EQ(timed->plan.rows.size(), 2u);
  EXPECT_EQ(timed->plan.rows[0].token, 9);
  EXPECT_EQ(timed->plan.rows[1].token, kPreviousSample);
  ASSERT_EQ(timed->plan.samples.size(), 2u);
  EXPECT_EQ(timed->plan.samples[0].index, 42);
  EXPECT_EQ(timed->plan.samples[1].slot, 5);
}

TEST(PlanCodecTest, ExtremeNumbersTravel) {
  TimedPlan sent;
  sent.plan.number = UINT64_MAX;
  sent.plan.rows = {{.slot = INT32_MIN, .position = INT32_MAX, .token = INT32_MIN + 1}};

  auto timed = DecodePlan(EncodePlan(sent));

  ASSERT_TRUE(timed.ok()) << timed.status();
  EXPECT_EQ(timed->plan.number, UINT64_MAX);
  EXPECT_EQ(timed->plan.rows[0].slot, INT32_MIN);
  EXPECT_EQ(timed->plan.rows[0].position, INT32_MAX);
  EXPECT_EQ(timed->plan.rows[0].token, INT32_MIN + 1);
}

TEST(PlanCodecTest, AResultTravelsWhole) {
  auto result = DecodeResult(EncodeResult(FullResult()));

  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->number, 9u);
  EXPECT_EQ(result->tokens, FullResult().tokens);
}

TEST(PlanCodecTest, ADecodeStepOfEightAgentsIsSmall) {
  TimedPlan timed;
  timed.plan.number = 1000;
  timed.patience = absl::Seconds(6);
  for (int i = 0; i < 8; ++i) {
    timed.plan.rows.push_back({.slot = i, .position = 500 + i, .token = kPreviousSample});
    timed.plan.samples.push_back({.row = i, .slot = i, .index = 400});
  }

  EXPECT_THAT(EncodePlan(timed).size(), Lt(100u));
}

TEST(PlanCodecTest, EveryShortenedMessageIsRefused) {
  const std::string plan = EncodePlan(FullPlan()), result = EncodeResult(FullResult());

  for (size_t size = 0; size < plan.size(); ++size) {
    EXPECT_EQ(DecodePlan(plan.substr(0, size)).status().code(), absl::StatusCode::kInvalidArgument);
  }
  for (size_t size = 0; size < result.size(); ++size) {
    EXPECT_FALSE(DecodeResult(result.substr(0, size)).ok());
  }
}

TEST(PlanCodecTest, WhatFollowsTheEndIsRefused) {
  EXPECT_FALSE(DecodePlan(EncodePlan(FullPlan()) + '\0').ok());
  EXPECT_FALSE(DecodeResult(EncodeResult(FullResult()) + '\0').ok());
}

TEST(PlanCodecTest, AnotherKindOrVersionIsRefused) {
  std::string bytes = EncodePlan(FullPlan());
  EXPECT_FALSE(DecodeResult(bytes).ok());

  bytes[1] = 99;

  EXPECT_FALSE(DecodePlan(bytes).ok());
}

TEST(PlanCodecTest, AHugeCountIsRefusedBeforeMemoryIsTaken) {
  // Kind, version, number, patience, then a count of 2^56 slot changes.
  std::string bytes = {'P', 1, 1, 0};
  for (int i = 0; i < 8; ++i) bytes += '\x80';
  bytes += 1;

  EXPECT_EQ(DecodePlan(bytes).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(PlanCodecTest, ANumberInALongerSpellingIsRefused) {
  const std::string bytes = {'P', 1, '\x81', 0, 0, 0, 0, 0, 0};

  EXPECT_FALSE(DecodePlan(bytes).ok());
}

// Seeded mutations of good messages: bytes changed, removed, added, doubled.
std::string Mutated(std::string bytes, std::mt19937_64& random) {
  for (uint64_t i = 1 + random() % 4; i > 0; --i) {
    const size_t at = bytes.empty() ? 0 : random() % bytes.size();
    switch (random() % 4) {
      case 0:
        if (!bytes.empty()) bytes[at] = static_cast<char>(random());
        break;
      case 1:
        bytes.erase(at, random() % 8);
        break;
      case 2:
        bytes.insert(at, 1 + random() % 8, static_cast<char>(random()));
        break;
      default:
        bytes += bytes.substr(at, random() % 16);
    }
  }
  return bytes;
}

TEST(PlanCodecTest, WhateverDecodesEncodesToTheSameBytes) {
  std::mt19937_64 random(20'240'601);
  const std::string plan = EncodePlan(FullPlan()), result = EncodeResult(FullResult());
  int accepted = 0;

  for (int i = 0; i < 30'000; ++i) {
    const std::string bytes = Mutated(i % 2 == 0 ? plan : result, random);
    if (auto decoded = DecodePlan(bytes); decoded.ok()) {
      EXPECT_EQ(EncodePlan(*decoded), bytes);
      ++accepted;
    }
    if (auto decoded = DecodeResult(bytes); decoded.ok()) {
      EXPECT_EQ(EncodeResult(*decoded), bytes);
      ++accepted;
    }
  }

  EXPECT_GT(accepted, 100);
}

TEST(AgreementHashTest, ChangesWithNumberSlotAndToken) {
  StepPlan plan;
  plan.number = 3;
  plan.samples = {{.row = 0, .slot = 1}};
  StepResult result{.number = 3, .tokens = {{.id = 8}}};
  const uint64_t hash = AgreementHash(plan, result);

  StepPlan other_slot = plan;
  other_slot.samples[0].slot = 2;
  StepResult other_token = result, other_number = result;
  other_token.tokens[0].id = 9;
  other_number.number = 4;

  EXPECT_NE(AgreementHash(other_slot, result), hash);
  EXPECT_NE(AgreementHash(plan, other_token), hash);
  EXPECT_NE(AgreementHash(plan, other_number), hash);
}

TEST(AgreementHashTest, LeavesLogProbabilitiesOut) {
  StepPlan plan;
  plan.samples = {{.row = 0, .slot = 1}};
  const StepResult leader{.number = 3, .tokens = {{.id = 8, .logprob = -1.5f}}};
  const StepResult follower{.number = 3, .tokens = {{.id = 8}}};

  EXPECT_EQ(AgreementHash(plan, leader), AgreementHash(plan, follower));
}

}  // namespace
}  // namespace conclave::worker
