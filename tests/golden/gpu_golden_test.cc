#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "common/status.h"
#include "tests/golden/equality.h"
#include "tests/golden/gpu.h"
#include "tests/source_folder.h"
#include "worker/collective/shared_collective.h"
#include "worker/runner/model_runner.h"

namespace conclave::worker {
namespace {

const std::string kOwn = SourceFolder() + "/tests/golden/data/";
const std::string kDemo = SourceFolder() + "/models/conclave-demo";
const std::vector<TokenId> kPrompt = {5, 17, 33, 2, 9, 40, 41, 42, 5,  17, 33,
                                      2, 9,  40, 7, 7, 7,  1,  30, 31, 99, 98};

// Rule 2 on a GPU, with whole models: emulated ones compute as little as shows it.
class GpuGoldenTest : public testing::Test {
 protected:
  void SetUp() override {
    const absl::Status status = MakeGpu({}).status();
    if (absl::IsNotFound(status)) GTEST_SKIP() << status;
    ASSERT_TRUE(status.ok()) << status;
  }

  static Trial TrialOf(const CudaOptions& options) {
    Trial trial;
    trial.make_device = [options](int) { return MakeGpu(options); };
    if (GpuIsEmulated()) trial.neighbours = 2, trial.chunks = {5}, trial.generated = 4;
    return trial;
  }

  static std::vector<TokenId> Prompt() {
    return {kPrompt.begin(), GpuIsEmulated() ? kPrompt.begin() + 18 : kPrompt.end()};
  }

  static void ExpectRule2(const Equality& equality) {
    EXPECT_TRUE(equality.batch_equal);
    EXPECT_TRUE(equality.chunks_equal);
    EXPECT_TRUE(equality.prefix_equal);
    EXPECT_TRUE(equality.resumed_equal);
  }
};

TEST_F(GpuGoldenTest, F32LogitsAreTheReferences) {
  using Compute = CudaOptions::Compute;
  int models = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kOwn)) {
    const std::string dir = entry.path().string();
    // One with a mixture stands for all where time is short.
    if (GpuIsEmulated() && !dir.ends_with("moe")) continue;
    SCOPED_TRACE(dir);
    auto golden = ReadGolden(dir);
    ASSERT_TRUE(golden.ok()) << golden.status();
    Trial trial = TrialOf({.compute = Compute::kF32});
    if (GpuIsEmulated()) trial.neighbours = 1, trial.chunks = {}, trial.generated = 2;

    const auto equality = CompareOn(trial, dir, *golden);

    ASSERT_TRUE(equality.ok()) << equality.status();
    EXPECT_LT(*equality->relative_error, 1e-4);
    EXPECT_TRUE(equality->greedy_equal);
    ExpectRule2(*equality);
    ++models;
  }
  EXPECT_GT(models, 0);
}

TEST_F(GpuGoldenTest, Bf16LogitsAreNearTheCpusAndDependOnTheSequenceAlone) {
  const auto golden = ComputeGolden(kDemo, Prompt());
  ASSERT_TRUE(golden.ok()) << golden.status();

  const auto equality = CompareOn(TrialOf({}), kDemo, *golden);

  ASSERT_TRUE(equality.ok()) << equality.status();
  EXPECT_LT(*equality->relative_error, 3e-2);
  ExpectRule2(*equality);
}

TEST_F(GpuGoldenTest, SmallerNumbersAreNearAndDependOnTheSequenceAlone) {
  using Weights = CudaOptions::Weights;
  const auto golden = ComputeGolden(kDemo, Prompt());
  ASSERT_TRUE(golden.ok()) << golden.status();
  for (const auto& [weights, error] : {std::pair(Weights::kFp8, 0.15), {Weights::kInt4, 0.4}}) {
    SCOPED_TRACE(error);
    const CudaOptions options = {.weights = weights, .kv = CudaOptions::Kv::kFp8};

    Trial trial = TrialOf(options);
    if (GpuIsEmulated()) trial.neighbours = 1, trial.chunks = {}, trial.generated = 2;
    const auto equality = CompareOn(trial, kDemo, *golden);

    ASSERT_TRUE(equality.ok()) << equality.status();
    EXPECT_LT(*equality->relative_error, error);
    EXPECT_GT(*equality->relative_error, 5e-3);  // They are smaller.
    ExpectRule2(*equality);
  }
}

// Plans as an engine with two plans in flight makes them: sequences come and go, and rows are fed
// with what was drawn just before.
class Plans {
 public:
  void Open(SlotId slot, std::vector<TokenId> prompt, const Sampling& sampling) {
    SlotChange& open = plan_.slots.emplace_back();
    open.slot = slot, open.seed = 5, open.sampling = sampling;
    open.position = static_cast<int>(prompt.size());
    open.blocks = {{2 * slot, 2 * slot + 1}};
    for (int i = 0; i < open.position; ++i) plan_.rows.push_back({slot, i, prompt[i]});
    plan_.samples.push_back({static_cast<int32_t>(plan_.rows.size()) - 1, slot, 0});
    lengths_[slot] = {open.position, 1};
  }
  void Close(SlotId slot) {
    SlotChange& close = plan_.slots.emplace_back();
    close.kind = SlotChange::Kind::kClose, close.slot = slot;
    lengths_.erase(slot);
  }
  void GoOn(SlotId slot) {
    auto& [length, index] = lengths_.at(slot);
    plan_.samples.push_back({static_cast<int32_t>(plan_.rows.size()), slot, index++});
    plan_.rows.push_back({slot, length++, kPreviousSample});
  }
  StepPlan Next() {
    plan_.number = ++number_;
    return std::exchange(plan_, {});
  }

 private:
  StepPlan plan_;
  uint64_t number_ = 0;
  std::map<SlotId, std::pair<int, int>> lengths_;  // Positions and draws of each.
};

std::vector<StepPlan> ComingAndGoing() {
  Sampling warm, greedy, filtered, biased, penalised;
  greedy.temperature = 0;
  filtered.top_k = 5;
  biased.temperature = 1.3f, biased.logit_bias = {{5, 3.0f}, {17, -100.0f}};
  penalised.temperature = 0, penalised.frequency_penalty = 1.5f;
  std::vector<StepPlan> steps;
  Plans plans;
  plans.Open(0, {5, 17, 33, 2, 9}, greedy), plans.Open(1, {40, 41, 42}, warm);
  steps.push_back(plans.Next());
  for (int i = 0; i < 2; ++i) {
    plans.GoOn(1), plans.GoOn(0);  // In another order than they were drawn.
    steps.push_back(plans.Next());
  }
  plans.Close(1), plans.GoOn(0), plans.Open(1, {7, 8, 9, 10}, biased);
  steps.push_back(plans.Next());
  plans.GoOn(0), plans.GoOn(1), plans.Open(2, {30, 31}, filtered);
  steps.push_back(plans.Next());
  plans.GoOn(0), plans.GoOn(1), plans.GoOn(2);
  steps.push_back(plans.Next());
  plans.Close(2), plans.GoOn(0), plans.GoOn(1), plans.Open(3, {30, 31}, penalised);
  steps.push_back(plans.Next());
  plans.GoOn(3), plans.GoOn(0);
  steps.push_back(plans.Next());
  plans.Close(3), plans.GoOn(0);
  steps.push_back(plans.Next());
  return steps;
}

TEST_F(GpuGoldenTest, StepsThatAreBegunEarlyHaveTheSameTokens) {
  const auto make = [](Device& device, Collective& collective) {
    return ModelRunner::Create({.model_dir = kOwn + "dense_llama",
                                .kv_tokens = 16 * kBlockTokens,
                                .max_slots = 4,
                                .max_rows = 16},
                               device, collective);
  };
  SoloCollective collective;
  const auto device = MakeGpu({}), other = MakeGpu({});
  ASSERT_TRUE(device.ok() && other.ok());
  const auto apart = make(**device, collective), joined = make(**other, collective);
  ASSERT_TRUE(apart.ok() && joined.ok()) << apart.status() << joined.status();
  std::vector<uint64_t> early;
  std::vector<std::vector<TokenEvent>> wanted, found;
  const auto finish = [&] {
    auto result = (*joined)->Finish();
    ASSERT_TRUE(result.ok()) << result.status();
    found.push_back(result->tokens);
  };

  for (const StepPlan& plan : ComingAndGoing()) {
    const auto result = (*apart)->Run(plan);
    ASSERT_TRUE(result.ok()) << result.status();
    wanted.push_back(result->tokens);
    if (plan.number > 1) {
      const bool may = (*joined)->MayBegin(plan);
      if (may) early.push_back(plan.number);
      if (!may) finish();
      ASSERT_TRUE((*joined)->Begin(plan).ok());
      if (may) finish();
    } else {
      ASSERT_TRUE((*joined)->Begin(plan).ok());
    }
  }
  finish();

  EXPECT_EQ(found, wanted);
  // The sixth step is fed with a filtered draw, the eighth with one of penalised logits.
  EXPECT_EQ(early, (std::vector<uint64_t>{2, 3, 4, 5, 7, 9}));
}

}  // namespace
}  // namespace conclave::worker
