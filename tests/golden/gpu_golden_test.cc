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

namespace conclave::worker {
namespace {

const std::string kOwn = CONCLAVE_SOURCE_DIR "/tests/golden/data/";
const std::string kDemo = CONCLAVE_SOURCE_DIR "/models/conclave-demo";
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

}  // namespace
}  // namespace conclave::worker
