#include "worker/backend/random.h"

#include <gtest/gtest.h>

#include <vector>

#include "worker/backend/cpu/kernels.h"

namespace conclave::worker {
namespace {

using Words = std::array<uint32_t, 4>;

TEST(PhiloxTest, GivesTheAuthorsKnownAnswers) {
  EXPECT_EQ(Philox({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(GumbelNoiseTest, DependsOnSeedAgentIndexAndTokenAlone) {
  const float noise = GumbelNoise(1, 2, 3, 4);

  EXPECT_EQ(noise, GumbelNoise(1, 2, 3, 4));
  EXPECT_NE(noise, GumbelNoise(9, 2, 3, 4));
  EXPECT_NE(noise, GumbelNoise(uint64_t{1} << 32, 2, 3, 4));
  EXPECT_NE(noise, GumbelNoise(1, 9, 3, 4));
  EXPECT_NE(noise, GumbelNoise(1, 2, 9, 4));
  EXPECT_NE(noise, GumbelNoise(1, 2, 3, 9));
}

TEST(GumbelNoiseTest, NeverReachesItsBoundAndIsNearItWhereItIsGreat) {
  for (const float v : {0x1p-33f, 0x1p-32f, 0x1.8p-20f, 0.1f, 0.5f, 0.999f, 1 - 0x1p-24f, 1.0f}) {
    EXPECT_LT(NoiseOf(v), NoiseBound(v)) << v;
  }
  for (uint32_t i = 0; i < 200'000; ++i) {
    const float v = NoiseUniform(42, 0, i, 7), noise = NoiseOf(v), bound = NoiseBound(v);
    ASSERT_LT(noise, bound) << v;
    if (v < 0x1p-6f) {
      ASSERT_LT(bound, noise + 0.07f) << v;
    }
  }
}

TEST(GumbelNoiseTest, EveryInstructionSetMakesTheSameUniforms) {
  std::vector<const Kernels*> sets = {&PlainKernels()};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    sets.push_back(&Avx2Kernels());
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    sets.push_back(&Avx512Kernels());
  for (const Kernels* set : sets) {
    for (const int64_t width : {1, 15, 16, 17, 1000}) {
      for (const uint32_t first : {0u, 77u, 0x7ffffff0u}) {
        constexpr uint64_t kSeed = 0xfedcba9876543210;
        std::vector<float> made(static_cast<size_t>(width) + 1, -1);
        set->noise_uniforms(kSeed, 5, 9, first, width, made.data());
        for (int64_t i = 0; i < width; ++i) {
          ASSERT_EQ(made[static_cast<size_t>(i)],
                    NoiseUniform(kSeed, 5, 9, first + static_cast<uint32_t>(i)))
              << set->name;
        }
        EXPECT_EQ(made.back(), -1) << set->name;
      }
    }
  }
}

TEST(GumbelNoiseTest, HasTheMeanAndVarianceOfItsDistribution) {
  double sum = 0, squares = 0;
  const int n = 200'000;
  for (int i = 0; i < n; ++i) {
    const double x = GumbelNoise(42, 0, static_cast<uint32_t>(i), 7);
    sum += x;
    squares += x * x;
  }
  const double mean = sum / n;

  EXPECT_NEAR(mean, 0.5772, 0.02);                       // Euler's constant.
  EXPECT_NEAR(squares / n - mean * mean, 1.6449, 0.05);  // pi^2 / 6
}

}  // namespace
}  // namespace conclave::worker
