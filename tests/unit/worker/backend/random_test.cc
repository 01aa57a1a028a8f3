#include "worker/backend/random.h"

#include <gtest/gtest.h>

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
