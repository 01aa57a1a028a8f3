#pragma once

#include "worker/backend/cuda/platform.h"
#include "worker/backend/device.h"

namespace conclave::worker::cuda {

// The draws of one step from this rank's shard of the logits, on the device.
struct DeviceDraw {
  const float* logits = nullptr;  // [width], raw.
  float temperature = 1;
  uint64_t seed = 0;
  uint32_t agent = 0, index = 0;
  int32_t first_adjustment = 0, num_adjustments = 0;  // Ascending by id, of this shard only.
  int32_t keep = 0;
};

// Numbers of a draw's head: greatest, sum of exp, kConfidenceTokens greatest raw (minus infinity
// where there are fewer), and the ids of these (-1 where there are fewer).
inline constexpr int kDrawHead = 2 + 2 * kConfidenceTokens;

// Draws that travel with the launch instead of by a copy.
inline constexpr int kFewDraws = 16;
struct FewDraws {
  DeviceDraw of[kFewDraws];
};

// What comes back for one draw, in fixed places: its head, the best candidate, and `kept`
// candidates. A logit that is not a number counts as minus infinity.
struct DrawArgs {
  const DeviceDraw* draws = nullptr;  // [num_draws], device memory; null: they are in `few`.
  FewDraws few = {};
  int num_draws = 0;
  const Adjustment* adjustments = nullptr;  // Device memory, like `scratch` and `drawn`.
  int64_t width = 0;
  TokenId first = 0;
  int most_kept = 0;        // The greatest `keep`; at most 1024.
  void* scratch = nullptr;  // DrawScratchBytes(...)
  // What the host reads: device memory, or pinned memory of the host, which the kernels only write.
  float* heads = nullptr;     // [num_draws][kDrawHead]; ids as their bits.
  Candidate* best = nullptr;  // [num_draws]; id -1 when width is 0 or keep > 0.
  int32_t* drawn = nullptr;   // [num_draws], or null: the ids of `best` once more.
  Candidate* kept = nullptr;  // [num_draws][most_kept], by falling value; id -1 where fewer.
};
int64_t DrawScratchBytes(int num_draws, int64_t width, int most_kept);
void Draw(const DrawArgs& args, cudaStream_t stream);

}  // namespace conclave::worker::cuda
