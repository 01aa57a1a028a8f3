#include "worker/runner/model_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "common/status.h"
#include "worker/runner/local_runner.h"

namespace conclave::worker {
namespace {

using ::testing::HasSubstr;

LocalRunnerOptions Options() {
  LocalRunnerOptions options;
  options.model_dir = CONCLAVE_SOURCE_DIR "/tests/golden/data/dense_llama";
  options.kv_tokens = 8 * kBlockTokens;
  options.max_slots = 4;
  options.max_rows = 8;
  return options;
}

SlotChange Open(SlotId slot, std::vector<BlockId> blocks = {0, 1}) {
  SlotChange open;
  open.slot = slot;
  open.sampling.temperature = 0;
  open.blocks = {std::move(blocks)};
  return open;
}

// Opens slot 0 and runs two rows.
StepPlan GoodPlan() {
  StepPlan plan;
  plan.number = 1;
  plan.slots = {Open(0)};
  plan.rows = {{0, 0, 5}, {0, 1, 6}};
  plan.samples = {{1, 0, 0}};
  return plan;
}

absl::StatusOr<StepResult> RunStep(LocalRunner& runner, StepPlan plan) {
  const absl::Status submitted = runner.Submit(std::move(plan));
  EXPECT_TRUE(submitted.ok());
  return runner.Await();
}

TEST(ModelRunnerTest, AGoodPlanGivesItsTokens) {
  const auto runner = LocalRunner::Create(Options());
  ASSERT_TRUE(runner.ok()) << runner.status();
  const auto result = RunStep(**runner, GoodPlan());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->number, 1u);
  ASSERT_EQ(result->tokens.size(), 1u);
  EXPECT_GE(result->tokens[0].id, 0);
}

struct BadPlan {
  const char* name;
  std::function<void(StepPlan&)> change;
  const char* says;
};

class BadPlanTest : public ::testing::TestWithParam<BadPlan> {};

// Plans come from another process: none of them may read or write outside of what is there.
TEST_P(BadPlanTest, IsRefusedWithItsNumbers) {
  const auto runner = LocalRunner::Create(Options());
  ASSERT_TRUE(runner.ok());
  StepPlan plan = GoodPlan();
  GetParam().change(plan);
  const absl::Status status = RunStep(**runner, std::move(plan)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr(GetParam().says));
}

SlotChange Change(SlotChange::Kind kind, SlotId slot) {
  SlotChange change;
  change.kind = kind;
  change.slot = slot;
  return change;
}

INSTANTIATE_TEST_SUITE_P(
    Plans, BadPlanTest,
    ::testing::Values(
        BadPlan{"NumberTwice", [](auto& p) { p.number = 0; }, "step 0 came after step 0"},
        BadPlan{"NumberSkipped", [](auto& p) { p.number = 2; }, "step 2 came after step 0"},
        BadPlan{"SlotBelow", [](auto& p) { p.slots.push_back(Open(-1)); },
                "slot -1 is not in 0..3"},
        BadPlan{"SlotAbove", [](auto& p) { p.slots.push_back(Open(4)); }, "slot 4 is not in 0..3"},
        BadPlan{"OpenTwice", [](auto& p) { p.slots.push_back(Open(0)); }, "slot 0 is open already"},
        BadPlan{"CloseOfNone",
                [](auto& p) { p.slots.push_back(Change(SlotChange::Kind::kClose, 1)); },
                "slot 1 is not open"},
        BadPlan{"TruncateBelow",
                [](auto& p) {
                  p.slots.push_back(Change(SlotChange::Kind::kTruncate, 0));
                  p.slots.back().position = -1;
                },
                "slot 0 is cut at -1"},
        BadPlan{"BlockBelow", [](auto& p) { p.slots[0].blocks = {{-1}}; }, "block -1 of slot 0"},
        BadPlan{"BlockAbove", [](auto& p) { p.slots[0].blocks = {{8}}; },
                "block 8 of slot 0 is not in 0..7"},
        BadPlan{"SecondPool",
                [](auto& p) {
                  p.slots[0].blocks = {{0}, {1}};
                },
                "names 2 pools"},
        BadPlan{"CopyFrom",
                [](auto& p) {
                  p.copies = {{0, 8, 1, 1}};
                },
                "copies 1 tokens of block 8"},
        BadPlan{"CopyTo",
                [](auto& p) {
                  p.copies = {{0, 0, -1, 1}};
                },
                "of block 0 to -1"},
        BadPlan{"CopyPool",
                [](auto& p) {
                  p.copies = {{1, 0, 1, 1}};
                },
                "copies 1 tokens"},
        BadPlan{"CopyTooMany",
                [](auto& p) {
                  p.copies = {{0, 0, 1, kBlockTokens + 1}};
                },
                "copies"},
        BadPlan{"TooManyRows",
                [](auto& p) {
                  p.rows.resize(9, {0, 0, 5});
                },
                "9 rows and 1 samples; the limits are 8 and 4"},
        BadPlan{"TooManySamples",
                [](auto& p) {
                  p.samples.resize(5, {1, 0, 0});
                },
                "5 samples"},
        BadPlan{"RowOfNobody", [](auto& p) { p.rows[0].slot = 1; }, "slot 1, which is not open"},
        BadPlan{"RowSlotBelow", [](auto& p) { p.rows[0].slot = -1; }, "slot -1"},
        BadPlan{"TokenAbove", [](auto& p) { p.rows[0].token = 1 << 20; }, "the token 1048576 of"},
        BadPlan{"TokenBelow", [](auto& p) { p.rows[0].token = -2; }, "the token -2 of"},
        BadPlan{"NothingSampledBefore", [](auto& p) { p.rows[0].token = kPreviousSample; },
                "the token -1 of"},
        BadPlan{"PositionBelow", [](auto& p) { p.rows[0].position = -1; }, "position -1"},
        BadPlan{"PositionBehindTheBlocks", [](auto& p) { p.rows[1].position = 2 * kBlockTokens; },
                "with 2 blocks"},
        BadPlan{"PositionBeyondTheModel", [](auto& p) { p.rows[1].position = 1 << 30; },
                "position 1073741824"},
        BadPlan{"SampleOfNoRow", [](auto& p) { p.samples[0].row = 2; }, "samples row 2"},
        BadPlan{"SampleBelow", [](auto& p) { p.samples[0].row = -1; }, "samples row -1"},
        BadPlan{"SampleSlotAbove", [](auto& p) { p.samples[0].slot = 4; }, "for slot 4"},
        BadPlan{"SampleForNobody", [](auto& p) { p.samples[0].slot = 2; },
                "slot 2, which is not open"}),
    [](const auto& param) { return param.param.name; });

TEST(ModelRunnerTest, AClosedSlotForgetsEverything) {
  const auto runner = LocalRunner::Create(Options());
  const auto first = RunStep(**runner, GoodPlan());
  ASSERT_TRUE(first.ok());
  StepPlan again = GoodPlan();
  again.number = 2;
  again.slots.insert(again.slots.begin(), Change(SlotChange::Kind::kClose, 0));
  const auto second = RunStep(**runner, std::move(again));
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->tokens, first->tokens);
}

TEST(ModelRunnerTest, ATruncatedSlotGoesOnAsIfTheRestHadNeverBeen) {
  const auto runner = LocalRunner::Create(Options());
  ASSERT_TRUE(RunStep(**runner, GoodPlan()).ok());
  const auto step = [&](uint64_t number, TokenId token, bool cut) {
    StepPlan plan;
    plan.number = number;
    if (cut) {
      plan.slots = {Change(SlotChange::Kind::kTruncate, 0)};
      plan.slots[0].position = 2;
    }
    plan.rows = {{0, 2, token}};
    plan.samples = {{0, 0, 1}};
    return RunStep(**runner, std::move(plan))->tokens[0];
  };
  const TokenEvent seven = step(2, 7, false);
  const TokenEvent eight = step(3, 8, true);
  EXPECT_EQ(step(4, 7, true), seven);
  EXPECT_NE(eight.logprob, seven.logprob);
}

TEST(ModelRunnerTest, MeasuringAStepLeavesNothingBehind) {
  const auto measured = LocalRunner::Create(Options());
  const auto fresh = LocalRunner::Create(Options());
  const auto taken = (*measured)->rank(0).MeasureStep(1000);
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_GT(*taken, absl::ZeroDuration());
  EXPECT_EQ(RunStep(**measured, GoodPlan())->tokens, RunStep(**fresh, GoodPlan())->tokens);
}

TEST(ModelRunnerTest, AModelThatIsNotThereIsNotFound) {
  LocalRunnerOptions options = Options();
  options.model_dir = "/nonexistent";
  EXPECT_EQ(LocalRunner::Create(options).status().code(), absl::StatusCode::kNotFound);
}

TEST(ModelRunnerTest, ThreePlansInFlightAreTooMany) {
  const auto runner = LocalRunner::Create(Options());
  ASSERT_TRUE((*runner)->Submit(GoodPlan()).ok());
  ASSERT_TRUE((*runner)->Submit(GoodPlan()).ok());
  EXPECT_EQ((*runner)->Submit(GoodPlan()).code(), absl::StatusCode::kFailedPrecondition);
}

TEST(StepHashTest, EveryPartOfAResultCounts) {
  StepPlan plan = GoodPlan();
  StepResult result{.number = 1,
                    .tokens = {{.id = 4, .logprob = 0, .top_logprob_mean = 0, .kind = {}}}};
  const uint64_t hash = StepHash(plan, result);
  EXPECT_EQ(StepHash(plan, result), hash);
  StepResult other = result;
  other.tokens[0].id = 5;
  EXPECT_NE(StepHash(plan, other), hash);
  StepPlan renumbered = plan;
  renumbered.number = 2;
  EXPECT_NE(StepHash(renumbered, result), hash);
  StepPlan elsewhere = plan;
  elsewhere.samples[0].slot = 3;
  EXPECT_NE(StepHash(elsewhere, result), hash);
}

}  // namespace
}  // namespace conclave::worker
