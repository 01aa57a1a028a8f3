#pragma once

#include <absl/status/status.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "worker/backend/cuda/attend.h"
#include "worker/backend/cuda/batch_view.h"
#include "worker/backend/cuda/cuda_memory.h"
#include "worker/backend/cuda/platform.h"
#include "worker/backend/device.h"

namespace conclave::worker::cuda {

// How batches are laid out.
struct BatchRules {
  // Batches without prompt rows are padded to one of few sizes, so that a recorded step fits many.
  bool pad = true;
  // Attention has kernels of its own for prompt rows. Otherwise all rows attend as produced ones.
  bool prompt_tiles = true;
};

// 1, 2, 4, 8, 12, 16, 24, 32, 48, 64, then multiples of 32.
int64_t RowBucket(int64_t rows);

// What the rows attend to in layers of one window, on the device.
struct DecodeView {
  int window = 0;
  const DecodeItem* items = nullptr;
  const int32_t* item_rows = nullptr;
  int num_items = 0, max_pieces = 0;
};

// The batch of a step on the device: one copy, at addresses that depend only on the batch's key.
// One thread.
class BatchUpload {
 public:
  // `scratch_block`: where padded rows stand. `drawn`: what tokens below 0 stand for, on the
  // device.
  absl::Status Begin(const Batch& batch, const BatchRules& rules, int32_t scratch_block,
                     const int32_t* drawn, cudaStream_t stream);
  const BatchView& view() const { return view_; }
  // The view of attention: without prompt rows, where these have no kernels of their own.
  const BatchView& attend_view() const { return attend_view_; }
  const PrefillTile* tiles() const { return tiles_; }
  int num_tiles() const { return num_tiles_; }
  // The plan for a window. The first time that one is asked for, the batch is laid out anew, with
  // it from then on: what was launched before may go on, and `moved` is set.
  absl::Status PlanFor(int window, cudaStream_t stream, DecodeView* plan);

  // Two batches of the same key have everything at the same addresses, and need the same launches.
  const std::vector<int32_t>& key() const { return key_; }
  // Whether addresses of batches that were recorded have changed, since this was last asked.
  bool TakeMoved() { return std::exchange(moved_, false); }

 private:
  struct Planned {
    int window = 0;
    DecodePlan plan;
    int num_items = 0, max_pieces = 0;  // Padded.
    size_t items_at = 0, rows_at = 0;   // Where they stand in the region.
  };
  struct Rows;
  void Expand(Rows* rows) const;
  void Plan(const Rows& rows);
  absl::Status LayOut(cudaStream_t stream);

  Batch batch_;
  BatchRules rules_;
  int32_t scratch_block_ = 0;
  const int32_t* drawn_ = nullptr;
  std::vector<Planned> windows_;
  std::vector<PrefillTile> prompt_tiles_;

  Scratch region_;
  Staging staging_;
  BatchView view_, attend_view_;
  const PrefillTile* tiles_ = nullptr;
  int num_tiles_ = 0;
  std::vector<int32_t> key_;
  bool moved_ = false;
};

}  // namespace conclave::worker::cuda
