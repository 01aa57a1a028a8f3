#pragma once

#include <cstddef>
#include <cstdint>

#include "worker/backend/cuda/attend_pieces.h"

// How a block of attend_decode.cu gets its tiles of keys and values.
namespace conclave::worker::cuda {

inline constexpr int kQueryRows = 64;             // Most of one block.
inline constexpr int kWeightStride = kPiece + 8;  // 8 more than a power of two: no bank conflicts.

// A block, whose warps have 16 positions of a tile each. e4m3 is bound by instructions: more warps.
template <bool kE4M3>
struct PieceShape {
  static constexpr int kTile = kE4M3 ? 128 : 64;  // Positions.
  static constexpr int kTiles = kPiece / kTile;
  static constexpr int kWarps = kTile / 16;
  static constexpr int kThreads = 32 * kWarps;
};

// Tiles in a ring: as many as let two blocks fit a multiprocessor of 228 KB; or with `little` one
// block have no more than 99 KB. kGroups: the most groups of 16 columns of one warp. kE4M3: KV is
// e4m3.
constexpr int RingStages(bool e4m3, int groups, bool little) {
  if (e4m3) return groups > 1 ? 2 : little ? 3 : 4;
  return groups > 2 ? 2 : groups > 1 ? (little ? 3 : 4) : 6;
}

// Shared memory of one block: the ring, then queries, which weights replace once all scores are
// there. Rows are an odd number of 16 bytes apart: no bank conflicts.
struct PieceRoom {
  int query_stride;  // Elements.
  int row_bytes;     // Of a tile as it is stored.
  size_t queries, bytes;
};
__host__ __device__ inline PieceRoom PieceRoomOf(int width, int group, bool e4m3, int stages) {
  PieceRoom room;
  room.query_stride = width + 8;
  room.row_bytes = e4m3 ? (width / 16 | 1) * 16 : room.query_stride * 2;
  room.queries = static_cast<size_t>(stages * room.row_bytes *
                                     (e4m3 ? PieceShape<true>::kTile : PieceShape<false>::kTile));
  // Items have up to 16 rows; instances are for 16, 32 and 64 query rows.
  const int query_rows = group == 1 ? 16 : group == 2 ? 32 : kQueryRows;
  room.bytes = room.queries + static_cast<size_t>(query_rows * kWeightStride * 2);
  return room;
}

// 8 threads to a block of KV: on its way to the L2 cache, what the item sees in it for one KV head.
// A hint, which may come while the block is being written.
template <bool kE4M3>
__device__ inline void PrefetchBlock(const PieceArgs& args, const DecodeItem& item, int kv_head,
                                     const void* pool, int32_t block) {
  constexpr int kLine = 128;
  const int thread = static_cast<int>(threadIdx.x), start = thread / 8 * kKvBlock;
  const int row_bytes = kE4M3 ? args.head_width : args.head_width * 2;
  const int from = max(item.from - start, 0) * row_bytes;
  const int to = min(item.to - start, kKvBlock) * row_bytes;
  const char* const head = static_cast<const char*>(pool) +
                           block * args.block_stride * (kE4M3 ? 1 : 2) +
                           int64_t{kv_head * kKvBlock} * row_bytes;
  for (int at = thread % 8 * kLine; at < to; at += 8 * kLine) {
    if (at + kLine > from) PrefetchL2(head + at);
  }
}

// Brings the tiles of a piece one after another: those of the keys that are seen, then those of the
// values. All threads of the block call every function together.
template <bool kE4M3, int kGroups, int kStages>
class TileRing {
 public:
  __device__ TileRing(const PieceArgs& args, const DecodeItem& item, int kv_head,
                      const int32_t* blocks, unsigned char* shared)
      : args_(args),
        item_(item),
        kv_head_(kv_head),
        blocks_(blocks),
        shared_(shared),
        room_(PieceRoomOf(args.head_width, args.group, kE4M3, kStages)) {}

  __device__ int first_tile() const { return item_.from / kTile; }
  __device__ int end_tile() const { return (item_.to + kTile - 1) / kTile; }
  // Of a tile, bytes.
  __device__ int row_bytes() const { return room_.row_bytes; }

  // The first copies; the caller's own, begun before, arrive with the first tile.
  __device__ void Start() {
    for (int step = 0; step < kStages - 1; ++step) Copy(step);
  }

  // The next tile, [kTile][row_bytes()] as it is stored, until the following call.
  __device__ const unsigned char* Next() {
    const int step = step_++;
    WaitCopies<kStages - 2>();
    // Now everyone's copies are there, and nobody reads the tile before any more.
    __syncthreads();
    Copy(step + kStages - 1);
    return StageOf(step);
  }

 private:
  static constexpr int kTile = PieceShape<kE4M3>::kTile;
  static constexpr int kAtOnce = PieceShape<kE4M3>::kThreads / 8;  // Positions.
  static constexpr int kRounds = kGroups;                          // Of 128 bytes a row.

  __device__ unsigned char* StageOf(int step) const {
    return shared_ + step % kStages * kTile * room_.row_bytes;
  }

  // 8 threads to a position.
  __device__ void Copy(int step) {
    const int tiles = end_tile() - first_tile();
    if (step < 2 * tiles) {
      const int tile = first_tile() + (step < tiles ? step : step - tiles);
      const char* const pool = static_cast<const char*>(step < tiles ? args_.keys : args_.values);
      const int first = static_cast<int>(threadIdx.x) / 8,
                chunk = static_cast<int>(threadIdx.x) % 8;
      const int row_bytes = kE4M3 ? args_.head_width : args_.head_width * 2;
#pragma unroll
      for (int token = first; token < kTile; token += kAtOnce) {
        const int at = tile * kTile + token;
        const bool seen = item_.from <= at && at < item_.to;
        const int64_t block = blocks_[at / kKvBlock];
        const char* const from = pool + block * args_.block_stride * (kE4M3 ? 1 : 2) +
                                 int64_t{kv_head_ * kKvBlock + at % kKvBlock} * row_bytes;
        unsigned char* const to = StageOf(step) + token * room_.row_bytes;
#pragma unroll
        for (int round = 0; round < kRounds; ++round) {
          const int c = 16 * (chunk + 8 * round);
          if (c < row_bytes) CopyAsync16(to + c, from + c, seen);
        }
      }
    }
    CommitCopies();
  }

  const PieceArgs& args_;
  const DecodeItem& item_;
  const int kv_head_;
  const int32_t* const blocks_;
  unsigned char* const shared_;
  const PieceRoom room_;
  int step_ = 0;
};

}  // namespace conclave::worker::cuda
