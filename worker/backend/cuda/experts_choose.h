#pragma once

#include "worker/backend/cuda/experts.h"

namespace conclave::worker::cuda {

// Up to `most` pairs (row, one of its chosen experts) of one expert, in order[first ..]. Padding
// has rows = 0.
struct ExpertTile {
  int32_t expert = 0, first = 0, rows = 0;
};

// Who goes to which expert, in device memory. Pair n * chosen + i is row n's i-th chosen expert, in
// rising order.
struct ExpertPlan {
  int32_t* chosen = nullptr;    // [pairs]: the expert.
  float* weights = nullptr;     // [pairs]
  int32_t* order = nullptr;     // [pairs]: pairs by expert.
  ExpertTile* tiles = nullptr;  // [num_tiles]
  int num_tiles = 0;            // MostExpertTiles(...): a bound that no score can pass.
};

// Tiles that `pairs` may need: each expert's last may be short.
constexpr int64_t MostExpertTiles(int64_t pairs, int num_experts, int tile_rows) {
  const int64_t bound = pairs / tile_rows + num_experts;
  return pairs < bound ? pairs : bound;
}

// Fills the plan from scores [rows][experts]: the `chosen` greatest of softmax(scores), ties to the
// lower expert. The order of pairs within an expert's tiles is not fixed; no result depends on it.
void ChooseExperts(Tensor scores, const ExpertChoice& choice, int tile_rows, const ExpertPlan& plan,
                   cudaStream_t stream);

}  // namespace conclave::worker::cuda
