#pragma once

#include <cstddef>
#include <cstdint>

#include "worker/backend/cuda/attend_pieces.h"

// How a block of attend_decode.cu gets its tiles of keys and values.
namespace conclave::worker::cuda {

inline constexpr int kPieceThreads = 128;
inline constexpr int kPieceTile = 64;  // Positions.
inline constexpr int kPieceTiles = kPiece / kPieceTile;
inline constexpr int kQueryRows = 64;             // Most of one block.
inline constexpr int kWeightStride = kPiece + 8;  // 8 more than a power of two: no bank conflicts.

// kGroups: the most groups of 16 columns of one warp. kE4M3: KV is e4m3.
template <bool kE4M3, int kGroups>
struct RingShape {
  // As many as let two blocks fit a multiprocessor of 228 KB.
  static constexpr int kStages = kGroups > 2 ? 2 : kGroups > 1 ? (kE4M3 ? 7 : 4) : (kE4M3 ? 8 : 6);
};

// Shared memory of one block: the ring, then (e4m3) a widened tile, then queries, which weights
// replace once all scores are there.
struct PieceRoom {
  int stride;       // Of a bf16 tile, elements; an odd number of 16 bytes: no bank conflicts.
  int stage_bytes;  // Of a tile as it is stored.
  size_t widened, queries, bytes;
};
__host__ __device__ inline PieceRoom PieceRoomOf(int width, int group, bool e4m3, int stages) {
  PieceRoom room;
  room.stride = width + 8;
  const int tile_bytes = kPieceTile * room.stride * 2;
  room.stage_bytes = e4m3 ? kPieceTile * width : tile_bytes;
  room.widened = static_cast<size_t>(stages * room.stage_bytes);
  room.queries = room.widened + static_cast<size_t>(e4m3 ? tile_bytes : 0);
  // Items have up to 16 rows; instances are for 16, 32 and 64 query rows.
  const int query_rows = group == 1 ? 16 : group == 2 ? 32 : kQueryRows;
  room.bytes = room.queries + static_cast<size_t>(query_rows * kWeightStride * 2);
  return room;
}

// Bytes `first` and `first` + 1 of the word, e4m3, as bf16: exact. Sign, exponent and mantissa move
// to their places; 2^120 makes up for the difference of the exponents' biases.
__device__ inline uint32_t WidenKvPair(uint32_t word, int first) {
  const uint32_t high_bytes = __byte_perm(word, 0, first == 0 ? 0x1404 : 0x3424);
  const uint32_t small = (high_bytes & 0x80008000u) | (high_bytes & 0x7f007f00u) >> 4;
  const __nv_bfloat162 numbers(__ushort_as_bfloat16(static_cast<unsigned short>(small)),
                               __ushort_as_bfloat16(static_cast<unsigned short>(small >> 16)));
  const __nv_bfloat162 widened = __hmul2(numbers, __float2bfloat162_rn(0x1p120f));
  return uint32_t{__bfloat16_as_ushort(widened.x)} | uint32_t{__bfloat16_as_ushort(widened.y)}
                                                         << 16;
}

// Brings the tiles of a piece one after another: those of the keys that are seen, then those of the
// values. All threads of the block call every function together.
template <bool kE4M3, int kGroups>
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

  __device__ int first_tile() const { return item_.from / kPieceTile; }
  __device__ int end_tile() const { return (item_.to + kPieceTile - 1) / kPieceTile; }
  __device__ int stride() const { return room_.stride; }

  // The first copies; the caller's own, begun before, arrive with the first tile.
  __device__ void Start() {
    for (int step = 0; step < kStages - 1; ++step) Copy(step);
  }

  // The next tile, [64][stride] bf16, until the following call.
  __device__ const __nv_bfloat16* Next() {
    const int step = step_++;
    WaitCopies<kStages - 2>();
    // Now everyone's copies are there, and nobody reads the tile before any more.
    __syncthreads();
    Copy(step + kStages - 1);
    unsigned char* const stage = StageOf(step);
    if constexpr (!kE4M3) {
      return reinterpret_cast<const __nv_bfloat16*>(stage);
    } else {
      Widen(stage);
      __syncthreads();
      return reinterpret_cast<const __nv_bfloat16*>(shared_ + room_.widened);
    }
  }

 private:
  static constexpr int kStages = RingShape<kE4M3, kGroups>::kStages;
  static constexpr int kRounds = kE4M3 ? (kGroups + 1) / 2 : kGroups;  // Of 128 bytes a row.

  __device__ unsigned char* StageOf(int step) const {
    return shared_ + step % kStages * room_.stage_bytes;
  }

  // 8 threads to a position: 16 positions, one block of KV, at once.
  __device__ void Copy(int step) {
    const int tiles = end_tile() - first_tile();
    if (step < 2 * tiles) {
      const int tile = first_tile() + (step < tiles ? step : step - tiles);
      const char* const pool = static_cast<const char*>(step < tiles ? args_.keys : args_.values);
      const int token = static_cast<int>(threadIdx.x) / 8,
                chunk = static_cast<int>(threadIdx.x) % 8;
      const int row_bytes = kE4M3 ? args_.head_width : args_.head_width * 2;
      const int to_bytes = room_.stage_bytes / kPieceTile;
#pragma unroll
      for (int i = 0; i < kPieceTile / kKvBlock; ++i) {
        const int at = tile * kPieceTile + i * kKvBlock + token;
        const bool seen = item_.from <= at && at < item_.to;
        const int64_t block = blocks_[tile * (kPieceTile / kKvBlock) + i];
        const char* const from = pool + block * args_.block_stride * (kE4M3 ? 1 : 2) +
                                 int64_t{kv_head_ * kKvBlock + token} * row_bytes;
        unsigned char* const to = StageOf(step) + (i * kKvBlock + token) * to_bytes;
#pragma unroll
        for (int round = 0; round < kRounds; ++round) {
          const int c = 16 * (chunk + 8 * round);
          if (c < row_bytes) CopyAsync16(to + c, from + c, seen);
        }
      }
    }
    CommitCopies();
  }

  // Each thread widens what it copied itself.
  __device__ void Widen(const unsigned char* stage) {
    const int token = static_cast<int>(threadIdx.x) / 8, chunk = static_cast<int>(threadIdx.x) % 8;
    const int width = args_.head_width;
    __nv_bfloat16* const tile = reinterpret_cast<__nv_bfloat16*>(shared_ + room_.widened);
#pragma unroll
    for (int i = 0; i < kPieceTile / kKvBlock; ++i) {
      const int at = i * kKvBlock + token;
#pragma unroll
      for (int round = 0; round < kRounds; ++round) {
        const int e = 16 * (chunk + 8 * round);
        if (e >= width) continue;
        const uint4 v = *reinterpret_cast<const uint4*>(stage + at * width + e);
        uint4* const to = reinterpret_cast<uint4*>(tile + at * room_.stride + e);
        to[0] = make_uint4(WidenKvPair(v.x, 0), WidenKvPair(v.x, 2), WidenKvPair(v.y, 0),
                           WidenKvPair(v.y, 2));
        to[1] = make_uint4(WidenKvPair(v.z, 0), WidenKvPair(v.z, 2), WidenKvPair(v.w, 0),
                           WidenKvPair(v.w, 2));
      }
    }
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
