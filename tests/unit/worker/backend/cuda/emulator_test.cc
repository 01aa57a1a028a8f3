// What only the emulator does: it finds mistakes.

#include "tests/unit/worker/backend/cuda/platform_test_kernels.h"
#include "tests/unit/worker/backend/cuda/rig.h"

namespace conclave::worker::cuda {
namespace {

using EmulatorTest = Rig;
using EmulatorDeathTest = Rig;

void RunOnce(void (*kernel)(float*), unsigned threads, float* out, bool early = false) {
  Launch(kernel, {1, threads, 1024, nullptr, early}, out);
  (void)cudaDeviceSynchronize();
}

TEST_F(EmulatorTest, ACopyThatNobodyWaitedForIsNotThere) {
  float* out = Poisoned<float>(512);
  CopyThrough(Upload(std::vector<float>(512, 1)), out, 64, false, stream());
  for (const float v : Download(out, 512)) EXPECT_TRUE(std::isnan(v));
}

TEST_F(EmulatorTest, SharedMemoryIsPoisonedForEveryBlock) {
  float* out = Poisoned<float>(64);
  const auto kernel = +[](float* to) {
    __shared__ float values[32];
    to[threadIdx.x + 32 * blockIdx.x] = values[threadIdx.x] + DynamicShared<float>()[threadIdx.x];
    values[threadIdx.x] = DynamicShared<float>()[threadIdx.x] = 1;
  };
  Launch(kernel, {2, 32, 1024, stream()}, out);
  for (const float v : Download(out, 64)) EXPECT_TRUE(std::isnan(v));
}

TEST_F(EmulatorTest, AMissingBarrierShowsInOneOrderOrTheOther) {
  const auto kernel = +[](float* to) {
    __shared__ float values[64];
    values[threadIdx.x] = 1;
    __syncwarp();
    to[threadIdx.x] = values[63 - threadIdx.x];
  };
  int wrong = 0;
  for (int i = 0; i < 2; ++i) {
    float* out = Poisoned<float>(64);
    Launch(kernel, {1, 64, 0, stream()}, out);
    for (const float v : Download(out, 64)) wrong += std::isnan(v) ? 1 : 0;
  }
  EXPECT_EQ(wrong, 64);
}

TEST_F(EmulatorTest, PageableMemoryIsReadBeforeACopyReturns) {
  float* to = Poisoned<float>(1);
  float from = 1;
  ASSERT_EQ(cudaMemcpyAsync(to, &from, 4, cudaMemcpyHostToDevice, stream()), cudaSuccess);
  from = 2;
  EXPECT_EQ(Download(to, 1)[0], 1);
}

TEST_F(EmulatorTest, PinnedMemoryIsReadWhenTheCopyRuns) {
  float *to = Poisoned<float>(1), *from = nullptr;
  ASSERT_EQ(cudaMallocHost(reinterpret_cast<void**>(&from), 4), cudaSuccess);
  *from = 1;
  ASSERT_EQ(cudaMemcpyAsync(to, from, 4, cudaMemcpyHostToDevice, stream()), cudaSuccess);
  *from = 2;
  EXPECT_EQ(Download(to, 1)[0], 2);
  EXPECT_EQ(cudaFreeHost(from), cudaSuccess);
}

TEST_F(EmulatorTest, CopiesStayInTheirMemory) {
  float* to = Poisoned<float>(4);
  float from[8] = {};
  EXPECT_EQ(cudaMemcpyAsync(to, from, 32, cudaMemcpyHostToDevice, stream()), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyAsync(to, from, 16, cudaMemcpyDeviceToHost, stream()), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
}

TEST_F(EmulatorTest, WaitingSpoilsACapture) {
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream()), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaStreamEndCapture(stream(), &graph), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(graph, nullptr);
  EXPECT_EQ(cudaGetLastError(), cudaErrorStreamCaptureInvalidated);
}

// Kernels stand outside of EXPECT_DEATH: in a macro's arguments all places are one.
TEST_F(EmulatorDeathTest, DivergedLanesAreFound) {
  const auto branches = +[](float* to) {
    if (threadIdx.x < 16) {
      to[0] = __shfl_xor_sync(~0U, 1.0F, 1);
    } else {
      to[1] = __shfl_xor_sync(~0U, 1.0F, 1);
    }
  };
  EXPECT_DEATH(RunOnce(branches, 32, Poisoned<float>(2)), "lanes of a warp have diverged");
  const auto one_missing = +[](float*) {
    if (threadIdx.x != 7) __syncwarp();
  };
  EXPECT_DEATH(RunOnce(one_missing, 32, nullptr), "32 lanes|ends while lanes");
  const auto some_at_a_barrier = +[](float*) {
    if (threadIdx.x < 40) {
      __syncwarp();
    } else {
      __syncthreads();
    }
  };
  EXPECT_DEATH(RunOnce(some_at_a_barrier, 64, nullptr), "never come.*operation of its warp");
  const auto half_a_warp = +[](float*) { __syncwarp(); };
  EXPECT_DEATH(RunOnce(half_a_warp, 16, nullptr), "32 lanes");
}

TEST_F(EmulatorDeathTest, BarriersAreForAll) {
  const auto branches = +[](float*) {
    if (threadIdx.x < 32) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  };
  EXPECT_DEATH(RunOnce(branches, 64, nullptr), "different barriers");
}

TEST_F(EmulatorDeathTest, AddressesAreChecked) {
  EXPECT_DEATH(
      RunOnce(
          +[](float* to) { CopyAsync16(DynamicShared<float>() + 1, to); }, 32, Poisoned<float>(8)),
      "not aligned to 16");
  EXPECT_DEATH(RunOnce(
                   +[](float* to) { CopyAsync16(DynamicShared<float>() + 256, to); }, 32,
                   Poisoned<float>(8)),
               "not in the block's shared memory");
  EXPECT_DEATH(RunOnce(
                   +[](float* to) { (void)LoadOnce16(to + 1); }, 32, Poisoned<float>(8)),
               "not aligned to 16");
}

TEST_F(EmulatorDeathTest, AnEarlyKernelWaits) {
  EXPECT_DEATH(RunOnce(
                   +[](float*) {}, 32, nullptr, true),
               "never calls GridDependencyWait");
}

}  // namespace
}  // namespace conclave::worker::cuda
