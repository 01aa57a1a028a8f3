#pragma once

#include <cstdint>

// How a product of few rows is cut into blocks: chosen by what was measured on an H200
// (cuda_kernels_bench --variants), where a launch wants tens of kilobytes of every multiprocessor
// under way from its first moment to its last.
namespace conclave::worker::cuda {

inline constexpr int kStepBytes = 128;  // Of a row: what a warp takes at a time.

struct RowPlan {
  int warps = 1;      // Of a block: the parts into which k is cut.
  int row_tiles = 1;  // Of a block, 16 rows of the weight each.
  int stages = 3;     // Of the ring in shared memory.
};

// Blocks of one row tile that a device of 132 multiprocessors (H100, H200) holds at once, with two
// blocks of 16 warps on each, or three of 8.
inline constexpr int64_t kMultiprocessors = 132;
inline constexpr int64_t kMostBlocksOf16 = 2 * kMultiprocessors;
inline constexpr int64_t kMostBlocksOf8 = 3 * kMultiprocessors;

// The warps are part of an output's arithmetic, so a function of the weight's shape (its rows, and
// the steps in one of them) alone. Where all blocks are there at once, as many as that allows: the
// launch lasts as long as one block. Where there are more, few warps in each, which have more steps
// before they must meet.
constexpr int ProductWarps(int64_t w_rows, int64_t steps) {
  const int64_t blocks = (w_rows + 15) / 16;
  int warps = blocks <= kMostBlocksOf16 ? 16 : blocks <= kMostBlocksOf8 ? 8 : 4;
  while (warps > 1 && warps > steps) warps /= 2;
  return warps;
}

// Of one pass of `rows` rows of x. More row tiles in a block read x and meet less often, at the
// price of fewer blocks: with few warps always, with 8 from some tokens on. `chunk`: numbers of the
// weight that a lane widens at a time, which fill its registers.
// `most_shared`: what a block may have of shared memory, beside a few bytes of its own.
constexpr RowPlan PlanRows(int64_t w_rows, int64_t steps, int64_t rows, int chunk,
                           int64_t most_shared) {
  RowPlan plan;
  plan.warps = ProductWarps(w_rows, steps);
  if (plan.warps <= 4) {
    // A thread finishes one column: four row tiles want two warps at least.
    plan.row_tiles = rows > 32 && plan.warps == 4 ? 4 : 2;
  } else if (plan.warps == 8 && rows > 16) {
    plan.row_tiles = 2;
  }
  const int most = chunk == 32 && rows > 16 ? 2 : 32 / chunk;
  if (plan.row_tiles > most) plan.row_tiles = most;
  if (plan.row_tiles == 4) {
    plan.stages = 2;
  } else if (plan.row_tiles == 1 && rows <= (chunk == 8 ? 16 : 8)) {
    // A fourth stage where all blocks, held at once, leave room for it, registers too.
    const int64_t held = (w_rows + 16 * kMultiprocessors - 1) / (16 * kMultiprocessors);
    const int64_t ring = int64_t{4} * plan.warps * 16 * kStepBytes;
    if (held * (ring + 1024) <= 227 * 1024 && ring + 1024 <= most_shared) plan.stages = 4;
  }
  return plan;
}

}  // namespace conclave::worker::cuda
