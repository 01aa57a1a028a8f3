#include "worker/backend/cuda/platform.h"

#include <numeric>

#include "tests/unit/worker/backend/cuda/platform_test_kernels.h"
#include "tests/unit/worker/backend/cuda/rig.h"

namespace conclave::worker::cuda {
namespace {

using PlatformTest = Rig;

TEST_F(PlatformTest, ABarrierOrdersSharedMemory) {
  for (const int n : {1, 31, 32, 33, 256}) {
    std::vector<float> in(n);
    std::iota(in.begin(), in.end(), 1.0F);
    float* out = Poisoned<float>(n);
    ReverseBlock(Upload(in), out, n, stream());
    EXPECT_EQ(Download(out, n), std::vector<float>(in.rbegin(), in.rend())) << n;
  }
}

TEST_F(PlatformTest, AWarpExchangesItsNumbers) {
  std::vector<float> in(32);
  for (int i = 0; i < 32; ++i) in[i] = static_cast<float>(i - 9);
  float* out = Poisoned<float>(96);
  SumWarp(Upload(in), out, stream());
  const std::vector<float> found = Download(out, 96);
  for (int i = 0; i < 32; ++i) {
    EXPECT_EQ(found[i], 208);
    EXPECT_EQ(found[32 + i], 208);
    EXPECT_EQ(found[64 + i], static_cast<float>(0xffffffffU << 10));
  }
}

TEST_F(PlatformTest, MatricesLieAsTheCommentSays) {
  const std::vector<float> a = Rounded(Random(256, 1), DType::kBF16);
  const std::vector<float> b = Rounded(Random(128, 2), DType::kBF16);
  const std::vector<float> d = Random(128, 3);
  float* out = Upload(d);
  MultiplyTile(static_cast<__nv_bfloat16*>(Upload(a, DType::kBF16, 16, 16).data),
               static_cast<__nv_bfloat16*>(Upload(b, DType::kBF16, 16, 8).data), out, stream());
  const std::vector<float> found = Download(out, 128);
  for (int i = 0; i < 128; ++i) {
    double sum = d[i], terms = std::abs(d[i]);
    for (int k = 0; k < 16; ++k) {
      const double product = static_cast<double>(a[i / 8 * 16 + k]) * b[k * 8 + i % 8];
      sum += product;
      terms += std::abs(product);
    }
    EXPECT_TRUE(Near(found[i], sum, terms)) << i;
  }
}

TEST_F(PlatformTest, CopiesArriveOnceWaitedFor) {
  std::vector<float> in(512);
  std::iota(in.begin(), in.end(), 1.0F);
  float* out = Poisoned<float>(512);
  CopyThrough(Upload(in), out, 60, true, stream());
  const std::vector<float> found = Download(out, 512);
  for (int i = 0; i < 512; ++i) {
    EXPECT_EQ(found[i], i >= 240 && i < 256 ? 0.0F : in[i]) << i;
  }
}

TEST_F(PlatformTest, IntegersAddUpInAnyOrder) {
  int* counts = Upload(std::vector<int>{0, -1});
  CountThreads(counts, 5, stream());
  EXPECT_EQ(Download(counts, 2), (std::vector<int>{480, 479}));
}

TEST_F(PlatformTest, AGraphRepeatsWhatItCaptured) {
  float* out = Upload(std::vector<float>(100, 1));
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal), cudaSuccess);
  Increment(out, 100, stream());
  Increment(out, 50, stream());
  ASSERT_EQ(cudaStreamEndCapture(stream(), &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  EXPECT_EQ(Download(out, 100), std::vector<float>(100, 1));
  for (int i = 0; i < 3; ++i) ASSERT_EQ(cudaGraphLaunch(exec, stream()), cudaSuccess);
  std::vector<float> expected(100, 4);
  std::fill(expected.begin(), expected.begin() + 50, 7.0F);
  EXPECT_EQ(Download(out, 100), expected);
  EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
}

TEST_F(PlatformTest, ALaunchThatDoesNotFitIsAnError) {
  ReverseBlock(nullptr, nullptr, 1025, stream());
  EXPECT_NE(cudaGetLastError(), cudaSuccess);
  Increment(nullptr, 0, stream());
  EXPECT_NE(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(PlatformTest, FormatsOfWeightsHoldWhatTheTestsSay) {
  const std::vector<float> values = Random(3 * 256, 7);
  for (const Stored stored : {Stored::kF32, Stored::kBF16, Stored::kE4M3, Stored::kInt4}) {
    const TestMatrix w = UploadMatrix(values, 3, 256, stored, 128);
    EXPECT_EQ(w.matrix.stride, 384);
    for (size_t i = 0; i < values.size(); ++i) {
      const double step = stored == Stored::kInt4 ? 0.35 : stored == Stored::kE4M3 ? 0.3 : 0.02;
      EXPECT_NEAR(w.values[i], values[i], step);
    }
  }
}

}  // namespace
}  // namespace conclave::worker::cuda
