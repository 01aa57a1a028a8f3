#pragma once

#include <bit>

#include "worker/backend/cuda/attend.h"
#include "worker/backend/cuda/octets.h"

// Of AttendPrefill's kernel: its shapes, its shared memory, and how key tiles come there.
namespace conclave::worker::cuda::prefill {

// How one CTA attends a tile of up to kRows prompt rows for one query head. Each warp owns
// 16 * kRowTiles rows. Keys and values come by tiles of kKeys positions at multiples of kKeys, in
// rising order. Bounds: the tensor cores' mma rate first, then shared memory: a warp reads each key
// tile whole, once for its 16 * kRowTiles rows.
//
// Why a row's bits are its own: its sums run over key tiles at fixed positions, and within one in
// the order of the instructions; a key tile that the row doesn't see (another row of the tile does)
// leaves its state as it was: greatest score the same, factor 2^0 = 1, weights 2^-inf = 0, values
// finite, since positions that no row of the tile sees are zeros in shared memory.
template <int kHeadWidth, typename KvType, int kWarpRowTiles, int kWarpCount>
struct Shape {
  using Kv = KvType;
  static constexpr int kWidth = kHeadWidth;  // E
  static constexpr int kRowTiles = kWarpRowTiles;
  static constexpr int kWarps = kWarpCount;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kWarpRows = 16 * kRowTiles;
  static constexpr int kRows = kWarpRows * kWarps;
  static constexpr int kKeys = kWidth <= 128 ? 64 : 32;
  static constexpr int kKeyBlocks = kKeys / kKvBlock;
  static constexpr int kWarpsPerBlock = kWarps / kKeyBlocks;
  static constexpr int kCtasPerSm = kWidth <= 128 ? 2 : 1;
  // Elements from one row to the next in shared memory: an odd number of 16 bytes, so that the 8
  // rows of an ldmatrix matrix lie in different banks.
  static constexpr int kPitch = kWidth + 8;
  static constexpr bool kWidens = sizeof(Kv) == 1;
  static constexpr int kStages = kWidens ? 1 : 2;
  static constexpr int kStage = kKeys * kPitch;  // Elements of one tile of keys or values.
  static constexpr int kRaw = kWidens ? kKeys * kWidth : 0;  // Bytes, before they are widened.
  // How a block of the pool is copied by kWarpsPerBlock warps: kRowLanes lanes for each row, 16
  // bytes each (the last ones idle), kStepRows rows at a time. Every copy's address is a constant
  // away from the lane's first.
  static constexpr int kChunk = 16 / static_cast<int>(sizeof(Kv));  // Elements.
  static constexpr int kRowChunks = kWidth / kChunk;
  static constexpr int kRowLanes = static_cast<int>(std::bit_ceil(unsigned{kRowChunks}));
  static constexpr int kStepRows = 32 * kWarpsPerBlock / kRowLanes;
  static constexpr int kSteps = kKvBlock / kStepRows;
  static constexpr size_t kSharedBytes =
      (kRows * kPitch + 2 * kStages * kStage) * sizeof(__nv_bfloat16) + 2 * kRaw +
      kThreads * 4 * kRowTiles * sizeof(float);

  static_assert(kRows <= kPrefillTile && kWarps % kKeyBlocks == 0 && kWidth % 16 == 0);
  static_assert(kRowLanes <= 32 && kSteps * kStepRows == kKvBlock);
};

// What the kernel reads of AttendArgs.
struct PrefillArgs {
  const void *keys, *values;
  const __nv_bfloat16* q;
  __nv_bfloat16* out;
  int64_t q_stride, out_stride;
  const PrefillTile* tiles;
  const int32_t *positions, *tables, *blocks;
  int kv_heads, group;  // Query heads of one KV head.
  int window;
  float scale;  // Times log2(e): scores in units of log2.
};

// Shared memory of a CTA: q [kRows][kPitch], then kStages times keys and values [kKeys][kPitch],
// then keys and values as they are stored [kKeys][kWidth], then the lanes' state.
template <typename S>
struct Shared {
  __nv_bfloat16* base;

  __device__ __nv_bfloat16* q(int row) const { return base + row * S::kPitch; }
  __device__ __nv_bfloat16* keys(int stage) const {
    return base + S::kRows * S::kPitch + 2 * stage * S::kStage;
  }
  __device__ __nv_bfloat16* values(int stage) const { return keys(stage) + S::kStage; }
  __device__ unsigned char* raw() const {
    return reinterpret_cast<unsigned char*>(keys(S::kStages));
  }
  // This lane's state of the rows 16m + 8r + lane / 4 of its warp, here since registers are full:
  // the greatest score so far times log2(e), the weights' reference; the sum of the weights in the
  // lane's columns.
  __device__ float* max(int m, int r) const { return State(2 * m + r); }
  __device__ float* sum(int m, int r) const { return State(2 * (S::kRowTiles + m) + r); }

 private:
  __device__ float* State(int i) const {
    return reinterpret_cast<float*>(raw() + 2 * S::kRaw) + i * S::kThreads + threadIdx.x;
  }
};

// Copies key tiles from the pool. A warp serves one block of 16 positions of each tile, or a part
// of one, which lies in one piece in the pool.
template <typename S>
struct Loader {
  using Kv = typename S::Kv;
  const PrefillArgs& args;  // Kernel parameters: read anew at each use, they cost no registers.
  int kv_head;
  int table;        // Into args.blocks.
  int first, last;  // Positions that some row of the tile sees.
  int block;        // Which block of a tile this warp serves.
  int row, column;  // Of the block: the lane's first row; its elements.

  // The pool's block, or -1 where no position of it is seen (its id may not even exist).
  __device__ int Block(int tile) const {
    const int at = tile * S::kKeyBlocks + block;
    const bool seen = at * kKvBlock <= last && (at + 1) * kKvBlock > first;
    return seen ? __ldg(args.blocks + table + at) : -1;
  }

  // Starts the copies of a tile; positions that no row sees become zeros.
  __device__ void Start(int tile, int pool_block, const Shared<S>& shared, int stage) const {
    if (column < S::kWidth) {
      const int64_t head = int64_t{pool_block < 0 ? 0 : pool_block} * args.kv_heads + kv_head;
      const int64_t from = (head * kKvBlock + row) * S::kWidth + column;
      const Kv* keys = static_cast<const Kv*>(args.keys) + from;
      const Kv* values = static_cast<const Kv*>(args.values) + from;
      const int position = tile * S::kKeys + block * kKvBlock + row;
#pragma unroll
      for (int i = 0; i < S::kSteps; ++i) {
        const unsigned seen_from = position + i * S::kStepRows - first;
        const bool seen = seen_from <= static_cast<unsigned>(last - first);
        const int at = i * S::kStepRows * S::kWidth;
        if constexpr (S::kWidens) {
          CopyAsync16(Raw(shared) + at, keys + at, seen);
          CopyAsync16(Raw(shared) + S::kRaw + at, values + at, seen);
        } else {
          const int to = i * S::kStepRows * S::kPitch;
          CopyAsync16(shared.keys(stage) + Place() + to, keys + at, seen);
          CopyAsync16(shared.values(stage) + Place() + to, values + at, seen);
        }
      }
    }
    CommitCopies();
  }

  // e4m3 to bf16, exactly: each lane what it copied itself.
  __device__ void Widen(const Shared<S>& shared) const {
    if (column >= S::kWidth) return;
#pragma unroll
    for (int i = 0; i < S::kSteps; ++i) {
      const unsigned char* from = Raw(shared) + i * S::kStepRows * S::kWidth;
      const int to = Place() + i * S::kStepRows * S::kPitch;
      Widen16(from, shared.keys(0) + to);
      Widen16(from + S::kRaw, shared.values(0) + to);
    }
  }

 private:
  // Where the lane's first elements lie in a tile of keys or values, and as they are stored.
  __device__ int Place() const { return (block * kKvBlock + row) * S::kPitch + column; }
  __device__ unsigned char* Raw(const Shared<S>& shared) const {
    return shared.raw() + (block * kKvBlock + row) * S::kWidth + column;
  }
  __device__ static uint32_t Widen2(uint32_t pair) {
    const __half2 both(
        __nv_cvt_fp8x2_to_halfraw2(static_cast<__nv_fp8x2_storage_t>(pair), __NV_E4M3));
    return PackBF16(__low2float(both), __high2float(both));
  }
  __device__ static void Widen16(const unsigned char* from, __nv_bfloat16* to) {
    const uint4 raw = *reinterpret_cast<const uint4*>(from);
    auto* wide = reinterpret_cast<uint4*>(to);
    wide[0] = make_uint4(Widen2(raw.x & 0xffff), Widen2(raw.x >> 16), Widen2(raw.y & 0xffff),
                         Widen2(raw.y >> 16));
    wide[1] = make_uint4(Widen2(raw.z & 0xffff), Widen2(raw.z >> 16), Widen2(raw.w & 0xffff),
                         Widen2(raw.w >> 16));
  }
};

}  // namespace conclave::worker::cuda::prefill
