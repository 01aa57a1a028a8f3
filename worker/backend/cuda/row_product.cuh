#pragma once

#include <cstdint>

#include "worker/backend/cuda/matrix.h"
#include "worker/backend/cuda/platform.h"
#include "worker/backend/cuda/product_formats.cuh"
#include "worker/backend/cuda/row_norm.cuh"
#include "worker/backend/cuda/row_plan.h"

// The product of few rows with a large weight: bound by the weight's bytes, which each block
// streams once, past the registers, through a ring in shared memory that keeps tens of kilobytes of
// every multiprocessor under way. x is read through L1 and L2.
//
// Who does what: a block owns kRowTiles * 16 rows of the weight. Its warps share out k in steps of
// 128 bytes of a row, one after another in turn; a warp sums its own steps in rising order on the
// tensor cores (A = 16 rows of the weight, B = 8 tokens), and the warps' sums are added in the
// order of the warps. So an output is a fixed function of its row of x, its row of the weight, the
// format and the number of warps (which the weight's shape alone decides): the other template
// parameters, and the tokens that share the pass, do not change a bit.
//
// One row alone is bound by latency between kernels too: a product that norms its row itself, each
// block once, while its first copies are under way, saves a kernel.
namespace conclave::worker::cuda {

// Warps of a block at most: more row tiles need more registers.
constexpr int MostProductWarps(int row_tiles) { return 16 / row_tiles; }

struct RowProduct {
  const unsigned char* w = nullptr;
  int64_t row_bytes = 0;  // From one row of w to the next.
  int32_t in = 0;         // A multiple of 8.
  int32_t outs = 0;       // Of the product: rows of w, or half of them when gate and up are met.
  const float* scales = nullptr;
  const __nv_bfloat16* x = nullptr;
  int64_t x_stride = 0;  // A multiple of 8.
  int32_t rows = 0;      // Of x: at most 8 * kTokenTiles.
  void* out = nullptr;
  int64_t out_stride = 0;
  bool out_bf16 = false, add = false;
  const float* bias = nullptr;
  // One row that is normed first: then x is this, normed, to bf16.
  const float* unnormed = nullptr;
  const float* gain = nullptr;
  float eps = 0;

  // Of shared memory before the ring, for the normed row.
  __host__ __device__ int64_t normed_bytes() const {
    return unnormed == nullptr ? 0 : (int64_t{in} * 2 + 127) / 128 * 128;
  }
};

template <int kTokenTiles, int kRowTiles, int kStages>
struct ProductMemory {
  static constexpr int kStageBytes = kRowTiles * 16 * kStepBytes;  // One warp's step.
  // The sums of one warp, [token][row], with a pitch that keeps its stores free of bank conflicts.
  // They take the place of the rings.
  static constexpr int kPitch = kRowTiles * 16 + 4;
  static constexpr int kSums = kTokenTiles * 8 * kPitch;

  // Of a block: stages, each of all warps, one after another. No more than a warp has steps.
  static constexpr size_t Bytes(int warps, int64_t steps) {
    const int64_t turns = (steps + warps - 1) / warps;
    const int64_t ring = (turns < kStages ? turns : kStages) * kStageBytes;
    const int64_t sums = kSums * static_cast<int64_t>(sizeof(float));
    return static_cast<size_t>(warps * (ring > sums ? ring : sums));
  }
};

// Where a chunk of a step lies, so that neither a warp's copies nor its reads of 8 rows meet in a
// bank.
__device__ inline int PlaceOf(int row, int chunk) {
  return row * kStepBytes + (chunk ^ (row & 1) << 2) * 16;
}

__device__ inline float SiluOf(float x) { return x / (1.0F + expf(-x)); }

__device__ inline void StoreProduct(const RowProduct& p, int token, int column, float value) {
  const int64_t at = token * p.out_stride + column;
  if (p.out_bf16) {
    static_cast<__nv_bfloat16*>(p.out)[at] = __float2bfloat16(value);
  } else {
    float* const out = static_cast<float*>(p.out) + at;
    *out = p.add ? *out + value : value;
  }
}

// Blocks of a multiprocessor, of the most warps, that the registers must allow: two of one row tile
// and three stages, which PlanRows counts on.
template <typename Chunk, int kTokenTiles, int kRowTiles, int kStages>
constexpr int LeastBlocks() {
  constexpr int kMost = Chunk::kNumbers == 8 ? 4 : Chunk::kGrouped ? 1 : 2;  // Token tiles.
  if (kRowTiles == 1) return kStages == 3 && kTokenTiles <= kMost ? 2 : 1;
  return !Chunk::kGrouped && kRowTiles == 2 && kTokenTiles <= 4 ? 2 : 1;
}

// kGateUp: w is [G; U], and an output silu(gate) * up: each 16 rows of a block are 8 of G and the
// same 8 of U. kNormed: of one row, which is normed first.
template <typename Chunk, int kTokenTiles, int kRowTiles, int kStages, bool kGateUp, bool kNormed>
class ProductBlock {
  static_assert(!kNormed || kTokenTiles == 1);
  using Memory = ProductMemory<kTokenTiles, kRowTiles, kStages>;
  static constexpr int kPairs = Chunk::kNumbers / 2;   // Of a chunk.
  static constexpr int kPieces = Chunk::kNumbers / 8;  // 16-byte pieces of x for one chunk.
  static constexpr int kParts = kGateUp ? 2 : 1;
  static constexpr int kOuts = kRowTiles * 16 / kParts;
  // x of a whole step is read ahead of the weight where the registers allow it; of several tokens,
  // in blocks that take many steps, even before the step begins.
  static constexpr bool kAhead = kRowTiles == 1 && kStages == 3 ? kTokenTiles == 1 && kPieces <= 2
                                                                : kTokenTiles * kPieces <= 4;
  static constexpr bool kEarlier = kAhead && kRowTiles == 2 && kTokenTiles > 1;

 public:
  __device__ ProductBlock(const RowProduct& p, unsigned char* memory)
      : p_(p),
        memory_(memory + (kNormed ? p.normed_bytes() : 0)),
        normed_(reinterpret_cast<__nv_bfloat16*>(memory)),
        lane_(static_cast<int>(threadIdx.x) % 32),
        warp_(static_cast<int>(threadIdx.x) / 32),
        warps_(static_cast<int>(blockDim.x) / 32),
        first_(static_cast<int>(blockIdx.x) * kOuts),
        chunks_((p.in + Chunk::kNumbers - 1) / Chunk::kNumbers),
        steps_((chunks_ + 7) / 8),
        ring_(memory_ + warp_ * Memory::kStageBytes),
        first_row_(p.w + (int64_t{first_} + lane_ / 8) * p.row_bytes) {
    // Copies: lanes 0-7 take the 128 bytes of one row, lanes 8-15 of the next, and so on.
#pragma unroll
    for (int j = 0; j < kRowTiles * 4; ++j) {
      if (first_ + OutOf(4 * j + lane_ / 8) < p_.outs) valid_ |= 1U << j;
    }
  }

  __device__ void Run() {
#pragma unroll
    for (int s = 0; s < kStages - 1; ++s) Copy(warp_ + s * warps_, s);
    GridDependencyWait();
    if constexpr (kNormed) NormToShared(p_.unnormed, p_.gain, p_.in, p_.eps, normed_);

    uint4 ahead[2][kTokenTiles][kPieces];
    if constexpr (kEarlier) LoadStep(warp_, ahead);
    int slot = 0;
    for (int step = warp_; step < steps_; step += warps_) {
      if constexpr (kAhead && !kEarlier) LoadStep(step, ahead);
      WaitCopies<kStages - 2>();
      __syncwarp();  // The other lanes' copies are there too, and all have read the slot before.
      Copy(step + (kStages - 1) * warps_, slot == 0 ? kStages - 1 : slot - 1);
      if constexpr (kAhead) {
        Multiply(step, slot, 0, ahead[0]);
        if constexpr (kEarlier) LoadHalf(step + warps_, 0, ahead[0]);
        Multiply(step, slot, 1, ahead[1]);
        if constexpr (kEarlier) LoadHalf(step + warps_, 1, ahead[1]);
      } else {
#pragma unroll 1  // One half's x at a time: more would not fit the registers.
        for (int half = 0; half < 2; ++half) Multiply(step, slot, half, ahead[0]);
      }
      slot = slot + 1 == kStages ? 0 : slot + 1;
    }
    LoadEnds();
    WaitCopies<0>();
    __syncthreads();
    Meet();
  }

 private:
  // Row r of the block: which output it belongs to, and where it lies in the weight.
  __device__ static int OutOf(int r) { return kGateUp ? r / 16 * 8 + r % 8 : r; }
  __device__ int64_t RowOf(int r) const {
    const int64_t row = first_ + OutOf(r);
    return kGateUp && r % 16 >= 8 ? row + p_.outs : row;
  }

  // The output column that this thread finishes.
  __device__ int Column() const { return first_ + static_cast<int>(threadIdx.x) % kOuts; }

  // What the end needs, read while the warps wait for one another: the steps have no registers for
  // it.
  __device__ void LoadEnds() {
    const int column = Column();
    if (column >= p_.outs) return;
    for (int part = 0; part < kParts; ++part) {
      const int at = column + part * p_.outs;
      if (!Chunk::kGrouped && p_.scales != nullptr) {
        scales_[part] = __ldg(p_.scales + at) * Chunk::kUnit;
      }
      if (p_.bias != nullptr) biases_[part] = __ldg(p_.bias + at);
    }
  }

  // From a lane's j-th row to its next: four rows on, or over to U and back to G.
  __device__ int64_t RowsToNext(int j) const {
    if (!kGateUp || j % 2 == 0) return 4;
    return j % 4 == 1 ? p_.outs - 4 : 4 - p_.outs;
  }

  // Starts the copies of a step to a slot of the ring; past the end, an empty group.
  __device__ void Copy(int step, int slot) {
    if (step < steps_) {
      const int chunk = lane_ % 8;
      const bool there = step * 8 + chunk < chunks_;
      const int64_t column = static_cast<int64_t>(step) * kStepBytes + chunk * 16;
      unsigned char* const to = ring_ + slot * warps_ * Memory::kStageBytes;
      const unsigned char* from = first_row_ + column;
#pragma unroll
      for (int j = 0; j < kRowTiles * 4; ++j) {
        CopyAsync16(to + PlaceOf(4 * j + lane_ / 8, chunk), from, there && (valid_ >> j & 1U) != 0);
        from += RowsToNext(j) * p_.row_bytes;
      }
    }
    CommitCopies();
  }

  // Where this lane's chunk of half a step lies, as a number k, and x there in the first token
  // tile.
  __device__ int FirstOf(int step, int half) const {
    return (step * 8 + half * 4 + lane_ % 4) * Chunk::kNumbers;
  }
  __device__ const __nv_bfloat16* XAt(int k) const {
    return kNormed ? normed_ + k : p_.x + lane_ / 4 * p_.x_stride + k;
  }
  // x of one chunk and token tile: zeros past the last row and the last number.
  __device__ void LoadX(const __nv_bfloat16* from, int k, int tile, uint4 (&x)[kPieces]) const {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      x[i] = make_uint4(0, 0, 0, 0);
      if (tile * 8 + lane_ / 4 < p_.rows && k + 8 * i < p_.in) {
        x[i] = *reinterpret_cast<const uint4*>(from + 8 * i);
      }
    }
  }

  // x of a step or half of it, past the last one zeros.
  __device__ void LoadStep(int step, uint4 (&x)[2][kTokenTiles][kPieces]) const {
    LoadHalf(step, 0, x[0]);
    LoadHalf(step, 1, x[1]);
  }
  __device__ void LoadHalf(int step, int half, uint4 (&x)[kTokenTiles][kPieces]) const {
    const int k = FirstOf(step, half);
    const __nv_bfloat16* from = XAt(k);
#pragma unroll
    for (int n = 0; n < kTokenTiles; ++n, from += 8 * p_.x_stride) LoadX(from, k, n, x[n]);
  }

  // Half a step: 4 chunks of each row. Grouped formats have one scale for them, for each row.
  __device__ void Multiply(int step, int slot, int half,
                           const uint4 (&ahead)[kTokenTiles][kPieces]) {
    uint32_t upper[kRowTiles][kPairs], lower[kRowTiles][kPairs];
    float scale[kRowTiles][2] = {};
    const unsigned char* const from = ring_ + slot * warps_ * Memory::kStageBytes;
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      const int r = 16 * m + lane_ / 4, chunk = half * 4 + lane_ % 4;
      if constexpr (Chunk::kGrouped) {
        scale[m][0] = GroupScale(r, step * 2 + half);
        scale[m][1] = GroupScale(r + 8, step * 2 + half);
      }
      Chunk::Widen(*reinterpret_cast<const uint4*>(from + PlaceOf(r, chunk)), upper[m]);
      Chunk::Widen(*reinterpret_cast<const uint4*>(from + PlaceOf(r + 8, chunk)), lower[m]);
    }
    const int k = FirstOf(step, half);
    const __nv_bfloat16* x_from = XAt(k);
#pragma unroll
    for (int n = 0; n < kTokenTiles; ++n, x_from += 8 * p_.x_stride) {
      uint32_t b[kPairs];
      uint4 x[kPieces];
      if constexpr (!kAhead) LoadX(x_from, k, n, x);
#pragma unroll
      for (int i = 0; i < kPieces; ++i) Chunk::Order(kAhead ? ahead[n][i] : x[i], b + 4 * i);
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        float group[4] = {};
#pragma unroll
        for (int j = 0; j < kPairs / 2; ++j) {
          Mma16816(Chunk::kGrouped ? group : sums_[m][n],
                   {upper[m][2 * j], lower[m][2 * j], upper[m][2 * j + 1], lower[m][2 * j + 1]},
                   {b[2 * j], b[2 * j + 1]});
        }
        if constexpr (Chunk::kGrouped) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            sums_[m][n][i] = fmaf(scale[m][i / 2], group[i], sums_[m][n][i]);
          }
        }
      }
    }
  }
  __device__ float GroupScale(int r, int group) const {
    const int groups = p_.in / kInt4Group;
    const bool there = group < groups && first_ + OutOf(r) < p_.outs;
    return there ? __ldg(p_.scales + RowOf(r) * groups + group) : 0.0F;
  }

  // Adds the warps' sums in their order, and finishes the outputs. A thread keeps to one column.
  __device__ void Meet() {
    float* const sums = reinterpret_cast<float*>(memory_);
    float* const mine = sums + warp_ * Memory::kSums;
#pragma unroll
    for (int n = 0; n < kTokenTiles; ++n) {
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int token = 8 * n + 2 * (lane_ % 4) + i % 2;
          mine[token * Memory::kPitch + 16 * m + lane_ / 4 + i / 2 * 8] = sums_[m][n][i];
        }
      }
    }
    __syncthreads();
    const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    const int out = thread % kOuts, column = Column();
    if (column >= p_.outs) return;
    const int r = kGateUp ? out / 8 * 16 + out % 8 : out;
    for (int token = thread / kOuts; token < p_.rows; token += threads / kOuts) {
      float value = fmaf(scales_[0], Sum(sums, token, r), biases_[0]);
      if constexpr (kGateUp) {
        value = SiluOf(value) * fmaf(scales_[1], Sum(sums, token, r + 8), biases_[1]);
      }
      StoreProduct(p_, token, column, value);
    }
  }
  __device__ float Sum(const float* sums, int token, int r) const {
    float sum = 0;
    for (int w = 0; w < warps_; ++w) sum += sums[w * Memory::kSums + token * Memory::kPitch + r];
    return sum;
  }

  const RowProduct& p_;
  unsigned char* const memory_;  // The rings.
  __nv_bfloat16* const normed_;
  const int lane_, warp_, warps_;
  const int first_;           // The block's first output.
  const int chunks_, steps_;  // Of a row.
  unsigned char* const ring_;
  const unsigned char* const first_row_;       // Of the rows that this lane copies.
  uint32_t valid_ = 0;                         // Which of this lane's rows to copy are there.
  float scales_[2] = {1, 1}, biases_[2] = {};  // Of this thread's column.
  float sums_[kRowTiles][kTokenTiles][4] = {};
};

template <typename Chunk, int kTokenTiles, int kRowTiles, int kStages, bool kGateUp, bool kNormed>
__global__ void __launch_bounds__(MostProductWarps(kRowTiles) * 32,
                                  (LeastBlocks<Chunk, kTokenTiles, kRowTiles, kStages>()))
    RowProductKernel(const RowProduct product) {
  GridDependencyLaunch();
  ProductBlock<Chunk, kTokenTiles, kRowTiles, kStages, kGateUp, kNormed> block(
      product, DynamicShared<unsigned char>());
  block.Run();
}

}  // namespace conclave::worker::cuda
