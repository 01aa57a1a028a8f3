#include "worker/runner/device_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "common/status.h"

namespace conclave::worker {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

const CudaPlaces kNoCuda = {FAKE_CUDA_PARTS "/no_driver.so", {}};
const CudaPlaces kCuda = {FAKE_CUDA_PARTS "/fake_cuda_driver.so", {FAKE_CUDA_PARTS "/right"}};

class DeviceChoiceTest : public ::testing::Test {
 protected:
  void TearDown() override { unsetenv("FAKE_CUDA_DEVICES"); }
  static void Gpus(int count) { setenv("FAKE_CUDA_DEVICES", std::to_string(count).c_str(), 1); }
};

TEST_F(DeviceChoiceTest, WithoutAGpuAutoIsTheCpuAndSaysWhy) {
  const auto chosen = ChooseDevice({}, kNoCuda);

  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_THAT(chosen->device->name(), StartsWith("cpu/"));
  EXPECT_EQ(chosen->cuda, nullptr);
  EXPECT_THAT(chosen->why_no_cuda, HasSubstr("no NVIDIA driver"));
}

TEST_F(DeviceChoiceTest, TheCpuDoesNotAskForADriver) {
  const auto chosen = ChooseDevice({.kind = DeviceKind::kCpu}, kCuda);

  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_EQ(chosen->cuda, nullptr);
  EXPECT_EQ(chosen->why_no_cuda, "");
}

TEST_F(DeviceChoiceTest, WhoAsksForCudaGetsNothingElse) {
  EXPECT_EQ(ChooseDevice({.kind = DeviceKind::kCuda}, kNoCuda).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(DeviceChoiceTest, RanksTakeGpusInTurn) {
  Gpus(4);
  // The fake makes no device, and says which one it was asked for.
  const auto asked = [](int rank) {
    const DeviceOptions options = {.kind = DeviceKind::kCuda, .rank = rank, .ranks = 6};
    return std::string(MessageOf(ChooseDevice(options, kCuda).status()));
  };

  EXPECT_EQ(asked(3), "GPU 3");
  EXPECT_EQ(asked(5), "GPU 1");
}

TEST_F(DeviceChoiceTest, AutoSharesNoGpuAmongRanks) {
  Gpus(1);
  const auto chosen = ChooseDevice({.rank = 1, .ranks = 2}, kCuda);

  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_THAT(chosen->why_no_cuda, HasSubstr("GPUs: 1, ranks: 2"));
}

TEST_F(DeviceChoiceTest, AGpuThatIsTooOldLeavesAutoOnTheCpu) {
  Gpus(8);
  DeviceOptions options = {.rank = 7, .ranks = 8};  // The fake's seventh can't be used.
  EXPECT_THAT(ChooseDevice(options, kCuda)->why_no_cuda, HasSubstr("GPU 7"));

  options.kind = DeviceKind::kCuda;
  EXPECT_EQ(ChooseDevice(options, kCuda).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(DeviceChoiceTest, NumbersOfAGpuAreNotPromisedByTheCpu) {
  DeviceOptions options;
  options.cuda.compute = CudaOptions::Compute::kBF16;

  const absl::Status status = ChooseDevice(options, kNoCuda).status();

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("no NVIDIA driver"));
}

}  // namespace
}  // namespace conclave::worker
