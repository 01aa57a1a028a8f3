#include "worker/backend/cuda/row_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>

namespace conclave::worker::cuda {
namespace {

// Shared memory that a block may have: of an H200, and of cards that are not for data centres.
constexpr int64_t kMuch = 227 << 10, kLittle = 99 << 10;

// GB/s of a bf16 weight's bytes on an H200 (cuda_kernels_bench --variants): one row tile and three
// stages, one and four, two and three; with 4, 8 and 16 warps each (two row tiles: 4 and 8).
struct Measured {
  int64_t out, in, rows;
  int rates[8];
};
constexpr Measured kMeasured[] = {
    {6144, 4096, 1, {3374, 3653, 3442, 3634, 3791, 3315, 3496, 3644}},
    {6144, 4096, 8, {3042, 3435, 3076, 3044, 3493, 3075, 3056, 3452}},
    {4096, 4096, 1, {3250, 3507, 3634, 3280, 3334, 3095, 3173, 3523}},
    {4096, 4096, 8, {2919, 3206, 3430, 2900, 3083, 2866, 2941, 3266}},
    {28672, 4096, 1, {4178, 4210, 4260, 4141, 4196, 4043, 4216, 4218}},
    {28672, 4096, 8, {3996, 3905, 3792, 3718, 3771, 3933, 4005, 3996}},
    {28672, 4096, 16, {3505, 3585, 3640, 3406, 3440, 3011, 3846, 3646}},
    {4096, 14336, 1, {3677, 3996, 4238, 3662, 3444, 3821, 3606, 4141}},
    {4096, 14336, 8, {2631, 3545, 4045, 2644, 3411, 3322, 2631, 3612}},
    {4096, 14336, 16, {2251, 3325, 3266, 2250, 3349, 3225, 2157, 3283}},
    {128256, 4096, 1, {4451, 4400, 4468, 4465, 4425, 4376, 4464, 4394}},
    {128256, 4096, 8, {4276, 4226, 4062, 3989, 4102, 4298, 4270, 4244}},
    {128256, 4096, 16, {3879, 3918, 3958, 3767, 3788, 3084, 4122, 3914}},
    {3072, 2048, 1, {2481, 2761, 3071, 2505, 2883, 3083, 2436, 2768}},
    {3072, 2048, 8, {2198, 2492, 2682, 2214, 2568, 2689, 2258, 2612}},
    {2048, 2048, 1, {1958, 2118, 2552, 1985, 2296, 2557, 1861, 2368}},
    {2048, 2048, 8, {1758, 2018, 2175, 1738, 2083, 2179, 1746, 2242}},
    {2048, 2048, 16, {1351, 1744, 1962, 1327, 1748, 1980, 1437, 1744}},
    {16384, 2048, 1, {4043, 3873, 3841, 3567, 3791, 3844, 4047, 3925}},
    {16384, 2048, 8, {3739, 3560, 3462, 3248, 3417, 3485, 3765, 3646}},
    {16384, 2048, 16, {2968, 3263, 2756, 2817, 2837, 2711, 3496, 3279}},
    {2048, 8192, 1, {2354, 3221, 3419, 2374, 3235, 3565, 2212, 3102}},
    {2048, 8192, 8, {2073, 2788, 3085, 2050, 2777, 3224, 2030, 2891}},
    {2048, 8192, 16, {1750, 2335, 2835, 1757, 2294, 2799, 1675, 2455}},
    {128256, 2048, 1, {4432, 4458, 4448, 4432, 4454, 4446, 4434, 4461}},
    {128256, 2048, 8, {4082, 4231, 4232, 3940, 4224, 4232, 4200, 4236}},
};

TEST(RowPlanTest, IsNearTheBestThatWasMeasured) {
  for (const Measured& m : kMeasured) {
    const RowPlan plan = PlanRows(m.out, m.in * 2 / kStepBytes, m.rows, 8, kMuch);
    const int first = plan.row_tiles == 2 ? 6 : plan.stages == 3 ? 0 : 3;
    const int warps = plan.warps == 4 ? 0 : plan.warps == 8 ? 1 : 2;
    const int best = *std::max_element(std::begin(m.rates), std::end(m.rates));
    ASSERT_LE(plan.row_tiles, 2);
    EXPECT_GE(m.rates[first + warps], 0.97 * best)
        << "[" << m.out << ", " << m.in << "] rows " << m.rows;
  }
}

TEST(RowPlanTest, RowsAndSharedMemoryDoNotChangeTheWarps) {
  for (const int64_t out : {1, 16, 2048, 4224, 4225, 6336, 6337, 128256}) {
    for (const int64_t steps : {1, 3, 8, 15, 16, 224}) {
      for (const int chunk : {8, 16, 32}) {
        for (int rows = 1; rows <= 64; ++rows) {
          const RowPlan plan = PlanRows(out, steps, rows, chunk, kMuch);
          const RowPlan little = PlanRows(out, steps, rows, chunk, kLittle);
          ASSERT_EQ(plan.warps, ProductWarps(out, steps));
          ASSERT_LE(plan.warps, steps);
          // What the kernels are compiled for.
          ASSERT_LE(plan.warps * plan.row_tiles, 16);
          ASSERT_LE(plan.row_tiles * 16, plan.warps * 32);
          ASSERT_LE(plan.row_tiles, chunk == 32 && rows > 16 ? 2 : 32 / chunk);
          // The same bits in the same kernels, but for the ring.
          ASSERT_EQ(little.warps, plan.warps);
          ASSERT_EQ(little.row_tiles, plan.row_tiles);
          ASSERT_LE(little.stages * little.warps * little.row_tiles * 16 * kStepBytes, kLittle);
        }
      }
    }
  }
}

}  // namespace
}  // namespace conclave::worker::cuda
