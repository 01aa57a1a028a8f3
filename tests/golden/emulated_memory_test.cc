#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "common/status.h"
#include "worker/backend/cuda/cuda_device.h"
#include "worker/collective/collective.h"
#include "worker/runner/model_runner.h"

// What an emulated GPU's memory is taken for, and when.
namespace conclave::worker {
namespace {

constexpr int kSlots = 2, kPositions = 272, kRows = 24;

size_t FreeBytes() {
  size_t free = 0, total = 0;
  EXPECT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  return free;
}

// A rank with the model that ships, and two steps at its limits.
class EmulatedMemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    auto device = cuda::MakeCudaDevice({});
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    RunnerOptions options;
    options.model_dir = CONCLAVE_SOURCE_DIR "/models/conclave-demo";
    options.kv_tokens = kSlots * kPositions;
    options.max_slots = kSlots, options.max_rows = kRows, options.max_positions = kPositions;
    auto runner = ModelRunner::Create(options, *device_, alone_);
    ASSERT_TRUE(runner.ok()) << runner.status();
    runner_ = *std::move(runner);
  }

  // A prompt of all rows, then every slot's last token, as filtered draws.
  void RunGreatestSteps() {
    StepPlan prompt;
    prompt.number = 1;
    prompt.slots.emplace_back();
    prompt.slots[0].position = kRows;
    prompt.slots[0].blocks = {{0, 1}};
    for (int i = 0; i < kRows; ++i) prompt.rows.push_back({0, i, 5});
    prompt.samples = {{kRows - 1, 0, 0}};
    ASSERT_TRUE(runner_->Run(prompt).ok());

    StepPlan last;
    last.number = 2;
    last.slots.emplace_back().kind = SlotChange::Kind::kClose;
    for (int slot = 0; slot < kSlots; ++slot) {
      SlotChange& open = last.slots.emplace_back();
      open.slot = slot;
      open.sampling.temperature = 1;
      open.sampling.top_k = 50;
      open.blocks.emplace_back();
      for (int i = 0; i * kBlockTokens < kPositions; ++i) {
        open.blocks[0].push_back(slot * kPositions / kBlockTokens + i);
      }
      last.rows.push_back({slot, kPositions - 1, 5});
      last.samples.push_back({slot, slot, 0});
    }
    const auto result = runner_->Run(last);
    ASSERT_TRUE(result.ok()) << result.status();
  }

  SoloCollective alone_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<ModelRunner> runner_;
};

TEST_F(EmulatedMemoryTest, AfterTheRehearsalNoStepTakesAny) {
  ASSERT_TRUE(runner_->Rehearse().ok());
  const size_t free = FreeBytes();

  RunGreatestSteps();

  EXPECT_EQ(FreeBytes(), free);
}

TEST_F(EmulatedMemoryTest, WithoutItStepsTakeWhatTheyNeed) {
  const size_t free = FreeBytes();

  RunGreatestSteps();

  EXPECT_LT(FreeBytes(), free);
}

TEST_F(EmulatedMemoryTest, TheRehearsalSaysWhatToLowerWhereThereIsNoRoom) {
  // Nothing is left.
  void* rest = nullptr;
  ASSERT_EQ(cudaMalloc(&rest, FreeBytes()), cudaSuccess);

  const absl::Status status = runner_->Rehearse();

  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_NE(std::string(MessageOf(status)).find("lower group.kv_tokens"), std::string::npos)
      << status;
  cudaFree(rest);
}

}  // namespace
}  // namespace conclave::worker
