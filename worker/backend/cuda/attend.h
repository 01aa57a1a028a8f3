#pragma once

#include <cstdint>
#include <vector>

#include "worker/backend/cuda/batch_view.h"
#include "worker/backend/cuda/platform.h"
#include "worker/backend/device.h"
#include "worker/backend/tensor.h"

namespace conclave::worker::cuda {

// Keys are attended in pieces cut at multiples of this position; pieces are merged in order.
inline constexpr int kPiece = 256;
// Most rows of one decode item: rows that read the same blocks of one piece together.
inline constexpr int kItemRows = 16;

// Decode: `rows` produced rows read the same piece of the same blocks (a family's shared prompt is
// read once), for every KV head. Padding has rows = 0.
struct DecodeItem {
  int32_t first = 0;   // Into DecodePlan::item_rows.
  int32_t rows = 0;    // At most kItemRows.
  int32_t blocks = 0;  // Where in BatchView::blocks the piece's block table begins.
  int32_t piece = 0;   // Covers positions [piece * kPiece, (piece + 1) * kPiece).
  // What all its rows see, counted from the piece's first position; nothing else is read. More than
  // one row: all of the piece.
  int32_t from = 0, to = 0;
  // One row whose own position is in the piece: where. Else -1.
  int32_t own = -1;
};

// What the produced rows of a batch attend to, for layers of one window. Pure, on the host.
struct DecodePlan {
  std::vector<DecodeItem> items;
  std::vector<int32_t> item_rows;  // Rows, counted from the batch's first produced row.
  int max_pieces = 0;              // Most pieces of one row: its last, plus one.
};
// Each piece that a row sees is in one item. Rows share items where they see all of a piece and
// their tables are the same there and have been so since the window's start: tables are thought to
// have beginnings in common, not middles. tables[n]: the block table of row n (produced rows only);
// offsets[n]: where it begins in BatchView::blocks.
DecodePlan PlanDecode(const std::vector<const int32_t*>& tables,
                      const std::vector<int32_t>& offsets, const std::vector<int32_t>& positions,
                      int window);

// One tile of a prompt: consecutive rows of one run, on the device.
struct PrefillTile {
  int32_t first_row = 0, rows = 0;
};
inline constexpr int kPrefillTile = 128;  // Most rows of a tile.
// Of this device: half of that where blocks have little shared memory.
int PrefillTileRows();
// The tiles of rows [0, prompt_rows), of `tile_rows` at most, those that see most first. Pure, on
// the host.
std::vector<PrefillTile> PlanPrefill(const std::vector<Run>& runs, int prompt_rows, int tile_rows);

struct AttendArgs {
  BatchView batch;
  Tensor q, out;  // [N, H*E], of the same type: f32 or bf16.
  KvView kv;
  float scale = 1;  // Greater than 0.
  int window = 0;   // > 0: a row sees itself and window - 1 earlier positions.
  // Of PlanDecode, in device memory, padded to fixed numbers.
  const DecodeItem* items = nullptr;
  const int32_t* item_rows = nullptr;
  int num_items = 0, max_pieces = 0;
  // Partial results: E sums for each [produced row][H][max_pieces], then for each the greatest
  // score and the sum of weights; room for PartFloats(...) floats, aligned to 16 bytes.
  float* parts = nullptr;
  // Of PlanPrefill with this device's PrefillTileRows(), in device memory.
  const PrefillTile* tiles = nullptr;
  int num_tiles = 0;
};
int64_t PartFloats(int rows, int heads, int head_width, int max_pieces);

// Produced rows [prompt_rows, rows). Two kernels: pieces, and their merge in order; where
// max_pieces is 1, pieces alone. A row's result is the same bits whatever shares its items, and for
// any max_pieces. Positions, block tables, items and item_rows are read while earlier kernels may
// still run: copies write them, kernels never do. Queries, keys and values are read after these.
void AttendDecode(const AttendArgs& args, cudaStream_t stream);
// What else RopeStore would be given, of rows whose queries are AttendArgs::q.
struct FewInputs {
  Tensor k, v;
  const float *cos = nullptr, *sin = nullptr;
};
// RopeStore and AttendDecode of few produced rows in one kernel (and a merge), with the same bits;
// q stays as it is. What earlier steps stored is read while earlier kernels of this step may still
// run. REQUIRES: CanAttendFew: rows of bf16, none of which reads what another one stores, not more
// of them than run at once, and what a block needs in the shared memory that one may have.
bool CanAttendFew(const AttendArgs& args, const FewInputs& few);
void AttendFew(const AttendArgs& args, const FewInputs& few, cudaStream_t stream);
// Prompt rows [0, prompt_rows), whose keys and values are in the pool already: tensor cores; keys
// by tiles at fixed positions, in order. A row's result is the same bits in any tile. The KV is
// bf16 or e4m3 where q is bf16, f32 where q is f32.
void AttendPrefill(const AttendArgs& args, cudaStream_t stream);

}  // namespace conclave::worker::cuda
