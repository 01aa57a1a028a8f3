#include "worker/runner/device_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <thread>
#include <utility>
#include <vector>

#include "common/status.h"
#include "worker/backend/cpu/cpu_device.h"
#include "worker/collective/shared_collective.h"

namespace conclave::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

const CudaPlaces kNoCuda = {FAKE_CUDA_PARTS "/no_driver.so", {}};
const CudaPlaces kCuda = {FAKE_CUDA_PARTS "/fake_cuda_driver.so", {FAKE_CUDA_PARTS "/right"}};

class DeviceChoiceTest : public ::testing::Test {
 protected:
  void TearDown() override {
    unsetenv("FAKE_CUDA_DEVICES");
    unsetenv("FAKE_CUDA_NO_NCCL");
  }
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

TEST_F(DeviceChoiceTest, RanksThatNothingJoinsLeaveAutoOnTheCpu) {
  Gpus(2);
  setenv("FAKE_CUDA_NO_NCCL", "1", 1);
  DeviceOptions options = {.rank = 1, .ranks = 2};
  EXPECT_THAT(ChooseDevice(options, kCuda)->why_no_cuda, HasSubstr("NCCL"));

  options.kind = DeviceKind::kCuda;
  EXPECT_EQ(ChooseDevice(options, kCuda).status().code(), absl::StatusCode::kFailedPrecondition);
  options.rank = 0, options.ranks = 1;
  EXPECT_EQ(ChooseDevice(options, kCuda).status().message(), "GPU 0") << "one needs none";

  options.kind = DeviceKind::kAuto, options.group_ranks = 2;
  EXPECT_THAT(ChooseDevice(options, kCuda)->why_no_cuda, HasSubstr("NCCL")) << "over two hosts";
}

TEST_F(DeviceChoiceTest, SettingsOfAGpuThatTheCpuDoesNotHeedAreNamed) {
  DeviceOptions options;
  EXPECT_THAT(ChooseDevice(options, kNoCuda)->unheeded, IsEmpty());

  options.cuda.weights = CudaOptions::Weights::kInt4;
  options.cuda.kv = CudaOptions::Kv::kFp8;

  EXPECT_THAT(ChooseDevice(options, kNoCuda)->unheeded,
              ElementsAre("group.cuda.weights", "group.cuda.kv"));
}

// Two ranks, of which the first has another kind of device.
class DeviceAgreementTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if ((*MakeCpuDevice("auto", 1))->name() == (*MakeCpuDevice("plain", 1))->name()) {
      GTEST_SKIP() << "this processor has one kind only";
    }
  }

  // What each of them goes on with.
  std::vector<absl::StatusOr<ChosenDevice>> Agree(DeviceKind kind,
                                                  const std::vector<std::string>& sets) {
    ThreadGroup group(static_cast<int>(sets.size()));
    std::vector<absl::StatusOr<ChosenDevice>> agreed(sets.size());
    std::vector<std::thread> threads;
    for (size_t r = 0; r < sets.size(); ++r) {
      threads.emplace_back([&, r] {
        const auto collective = group.Rank(static_cast<int>(r));
        ChosenDevice mine;
        mine.device = *MakeCpuDevice(sets[r], 1);
        agreed[r] = AgreeOnDevice({.kind = kind}, std::move(mine), *collective);
      });
    }
    for (std::thread& thread : threads) thread.join();
    return agreed;
  }
};

TEST_F(DeviceAgreementTest, RanksThatAreAlikeKeepWhatTheyHave) {
  for (const auto& agreed : Agree(DeviceKind::kAuto, {"plain", "plain", "plain"})) {
    ASSERT_TRUE(agreed.ok()) << agreed.status();
    EXPECT_THAT(agreed->device->name(), StartsWith("cpu/plain"));
    EXPECT_EQ(agreed->why_no_cuda, "");
  }
}

TEST_F(DeviceAgreementTest, WithAutoAllTakeTheCpuWhereOneDiffers) {
  const std::string everybodys = (*MakeCpuDevice("auto", 1))->name();
  for (const auto& agreed : Agree(DeviceKind::kAuto, {"plain", "auto"})) {
    ASSERT_TRUE(agreed.ok()) << agreed.status();
    EXPECT_EQ(agreed->device->name(), everybodys);
    EXPECT_THAT(agreed->why_no_cuda, HasSubstr("rank 0 has cpu/plain"));
    EXPECT_THAT(agreed->why_no_cuda, HasSubstr("rank 1 has " + everybodys));
  }
}

TEST_F(DeviceAgreementTest, WhoAsksForOneKindIsToldWhoDiffers) {
  for (const auto& agreed : Agree(DeviceKind::kCpu, {"auto", "auto", "plain"})) {
    EXPECT_EQ(agreed.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(MessageOf(agreed.status())), HasSubstr("rank 2 has cpu/plain"));
  }
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
