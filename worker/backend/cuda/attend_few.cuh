#pragma once

#include <cmath>
#include <type_traits>

#include "worker/backend/cuda/attend_products.cuh"
#include "worker/backend/cuda/attend_tiles.cuh"
#include "worker/backend/cuda/octets.h"
#include "worker/backend/cuda/warp.h"

// What a block of attend_few.cu does.
//
// The bits are those of RopeStore and of AttendPieces (attend_decode.cu): a position belongs to the
// same warp and lane, sums run in the same order, and what AttendPieces adds beyond what is seen
// are zeros.
namespace conclave::worker::cuda {

struct FewArgs {
  PieceArgs pieces;
  const __nv_bfloat16 *k, *v;  // As `pieces.q`, and as far apart.
  void *keys, *values;         // The pool.
  const float *cos, *sin;      // [positions][E / 2]
  const int32_t* positions;
  int query_rows;  // For which a block has room.
};

// Shared memory: keys and values of the piece, as they are stored, then queries, then weights, in
// whose place the cosines and sines of each row of the item are before.
struct FewRoom {
  int row_bytes;
  int values, queries, weights, bytes;
};
__host__ __device__ inline FewRoom FewRoomOf(int width, bool e4m3, int query_rows) {
  FewRoom room;
  room.row_bytes = e4m3 ? (width / 16 | 1) * 16 : (width + 8) * 2;
  room.values = kPiece * room.row_bytes;
  room.queries = 2 * room.values;
  room.weights = room.queries + query_rows * (width + 8) * 2;
  room.bytes = room.weights + query_rows * kWeightStride * 2;
  return room;
}

template <int kWarps>
struct FewNotes {
  int32_t row[kItemRows], position[kItemRows];  // Of a row of the item.
  int32_t among[kQueryRows];                    // Of a query row: which row of the item,
  int32_t head[kQueryRows];                     // and which query head of all.
  float greatest[kWarps][kQueryRows];           // Raw scores.
  float sums[kWarps][kQueryRows];               // Of weights.
};

// An octet of a query, where MultiplyKeys wants it.
template <bool kE4M3>
__device__ inline void StoreQuery(__nv_bfloat16* query, int at, const float (&v)[kOctet]) {
  if constexpr (kE4M3) {  // Of each 16, the even ones first.
    __nv_bfloat16* const to = query + at / 16 * 16 + at % 16 / 2;
    *reinterpret_cast<uint2*>(to) = make_uint2(PackBF16(v[0], v[2]), PackBF16(v[4], v[6]));
    *reinterpret_cast<uint2*>(to + 8) = make_uint2(PackBF16(v[1], v[3]), PackBF16(v[5], v[7]));
  } else {
    StoreOctet(query + at, v);
  }
}

template <bool kE4M3, int kGroups>
class FewBlock {
  static constexpr int kWarps = PieceShape<kE4M3>::kWarps, kTile = PieceShape<kE4M3>::kTile;
  static constexpr int kTiles = PieceShape<kE4M3>::kTiles;
  static constexpr int kThreads = PieceShape<kE4M3>::kThreads;
  using Notes = FewNotes<kWarps>;
  using Kept = std::conditional_t<kE4M3, __nv_fp8_e4m3, __nv_bfloat16>;
  template <int kRows>
  using Scores = float[kTiles][kRows][2][4];

 public:
  __device__ FewBlock(const FewArgs& few, Notes& notes, unsigned char* shared)
      : few_(few),
        args_(few.pieces),
        notes_(notes),
        width_(few.pieces.head_width),
        room_(FewRoomOf(few.pieces.head_width, kE4M3, few.query_rows)),
        shared_(shared),
        queries_(reinterpret_cast<__nv_bfloat16*>(shared + room_.queries)),
        weights_(reinterpret_cast<__nv_bfloat16*>(shared + room_.weights)),
        angles_(reinterpret_cast<float*>(shared + room_.weights)),
        thread_(static_cast<int>(threadIdx.x)),
        warp_(thread_ / 32),
        first_query_(static_cast<int>(blockIdx.x) * kQueryRows),
        kv_head_(static_cast<int>(blockIdx.y)),
        item_(few.pieces.items[blockIdx.z]),
        query_rows_(min(item_.rows * few.pieces.group - first_query_, kQueryRows)) {}

  __device__ bool wanted() const { return query_rows_ > 0; }

  // Before earlier kernels are done: what the step's upload brought and earlier steps left. No
  // division but one: they would take longer than anything else here.
  __device__ void Fetch() {
    const int lane = thread_ % kWarp;
    // Blocks that nobody sees may not even be in the table.
    const bool there = lane * kKvBlock < item_.to && (lane + 1) * kKvBlock > item_.from;
    const int32_t block = there ? args_.blocks[item_.blocks + lane] : 0;  // Lane i: of block i.
    if (thread_ < item_.rows) {
      const int32_t row = args_.item_rows[item_.first + thread_];
      notes_.row[thread_] = row;
      notes_.position[thread_] = few_.positions[row];
    }
    Copy(args_.keys, 0, block);
    Copy(args_.values, room_.values, block);
    own_place_ = PlaceOf(__shfl_sync(kAllLanes, block, max(item_.own, 0) / kKvBlock), item_.own);
    if (thread_ < query_rows_) {
      const int query = first_query_ + thread_, among = query / args_.group;
      notes_.among[thread_] = among;
      notes_.head[thread_] = kv_head_ * args_.group + query - among * args_.group;
    }
    __syncthreads();
    const int half = width_ / 2;
    for (int r = warp_; r < item_.rows; r += kWarps) {
      const int64_t angle = int64_t{notes_.position[r]} * half;
      for (int i = lane; i < half; i += kWarp) {
        angles_[r * width_ + i] = few_.cos[angle + i];
        angles_[r * width_ + half + i] = few_.sin[angle + i];
      }
    }
    __syncthreads();
  }

  __device__ void Run() {
    Rotate();
    WaitCopies<1>();  // Of the keys.
    __syncthreads();
    if (query_rows_ <= 16) {
      Attend<1>();
    } else if (query_rows_ <= 32) {
      Attend<2>();
    } else {
      Attend<4>();
    }
  }

 private:
  // Of a position of the piece, in rows of a head, in the pool.
  __device__ int64_t PlaceOf(int32_t block, int at) const {
    return (int64_t{block} * args_.kv_heads + kv_head_) * kKvBlock + at % kKvBlock;
  }

  // What is seen of the piece, 8 threads to a position, as a group of copies; zeros behind it,
  // whose weights are 0. Lane i has the place of block i; a warp's positions are of one block at a
  // time.
  __device__ void Copy(const void* pool, int room, int32_t block) {
    const int row_bytes = kE4M3 ? width_ : 2 * width_;
    const int first = item_.from / 32 * 32, last = (item_.to + 31) / 32 * 32;
    for (int at = first + thread_ / 8; at < last; at += kThreads / 8) {
      const bool seen = item_.from <= at && at < item_.to;
      const int64_t place = PlaceOf(__shfl_sync(kAllLanes, block, at / kKvBlock), at);
      if (at == item_.own) continue;
      const char* const from = static_cast<const char*>(pool) + (seen ? place * row_bytes : 0);
      for (int c = thread_ % 8 * 16; c < row_bytes; c += 128) {
        CopyAsync16(shared_ + room + at * room_.row_bytes + c, from + c, seen);
      }
    }
    CommitCopies();
  }

  // 8 threads to a head of an octet of pairs each: of the queries, then of the row's own key; two
  // times 8 to its value.
  __device__ void Rotate() {
    const int half = width_ / 2, j = thread_ % 8 * kOctet;
    const int heads = query_rows_ + (item_.own < 0 ? 0 : 3);
    if (j >= half) return;
    for (int head = thread_ / 8; head < heads; head += kThreads / 8) {
      const bool is_q = head < query_rows_, is_k = head == query_rows_;
      const int among = is_q ? notes_.among[head] : 0;
      const __nv_bfloat16* from =
          is_q ? static_cast<const __nv_bfloat16*>(args_.q) + notes_.head[head] * width_
               : (is_k ? few_.k : few_.v) + kv_head_ * width_;
      from += notes_.row[among] * args_.q_stride + j;
      float a[kOctet], b[kOctet];
      if (!is_q && !is_k) {
        const int part = head == query_rows_ + 1 ? 0 : half;
        LoadOctet(from + part, a);
        StoreOwn(few_.values, room_.values, j + part, a);
        continue;
      }
      LoadOctet(from, a);
      LoadOctet(from + half, b);
      const float* const cos = angles_ + among * width_ + j;
      const float* const sin = cos + half;
#pragma unroll
      for (int i = 0; i < kOctet; ++i) {
        const float low = a[i];
        a[i] = fmaf(low, cos[i], -(b[i] * sin[i]));
        b[i] = fmaf(b[i], cos[i], low * sin[i]);
      }
      if (is_q) {
        StoreQuery<kE4M3>(queries_ + head * (width_ + 8), j, a);
        StoreQuery<kE4M3>(queries_ + head * (width_ + 8), j + half, b);
      } else {
        StoreOwn(few_.keys, 0, j, a);
        StoreOwn(few_.keys, 0, j + half, b);
      }
    }
  }
  __device__ void StoreOwn(void* pool, int room, int at, const float (&v)[kOctet]) {
    StoreOctet(static_cast<Kept*>(pool) + own_place_ * width_ + at, v);
    StoreOctet(reinterpret_cast<Kept*>(shared_ + room + item_.own * room_.row_bytes) + at, v);
  }

  template <int kRows>
  __device__ void Attend() {
    Scores<kRows> scores;
    Score<kRows>(scores);
    __syncthreads();
    Weigh<kRows>(scores);
    WaitCopies<0>();
    __syncthreads();
    float sums[kRows][kGroups][2][4] = {};
#pragma unroll 2
    for (int at = item_.from / 32 * 32; at < item_.to; at += 32) {
      MultiplyValues<kE4M3>(shared_ + room_.values + at * room_.row_bytes, room_.row_bytes, width_,
                            warp_, kWarps, weights_ + at, kWeightStride, sums);
    }
    Store<kRows>(sums);
  }

  // This warp's 16 positions of a tile, and whether they stand among 32 of which any is seen.
  __device__ int FirstOf(int tile) const { return tile * kTile + 16 * warp_; }
  __device__ bool Looked(int tile) const {
    const int first = FirstOf(tile) / 32 * 32;
    return first + 32 > item_.from && first < item_.to;
  }

  template <int kRows>
  __device__ void Score(Scores<kRows>& scores) {
    const int g = thread_ % 32 / 4, t = thread_ % 4;
    float greatest[kRows][2];
#pragma unroll
    for (int m = 0; m < kRows; ++m) greatest[m][0] = greatest[m][1] = -INFINITY;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int m = 0; m < kRows; ++m) {
#pragma unroll
        for (int i = 0; i < 8; ++i) scores[tile][m][i / 4][i % 4] = 0;
      }
      if (!Looked(tile)) continue;
      MultiplyKeys<kE4M3, kRows>(shared_ + FirstOf(tile) * room_.row_bytes, room_.row_bytes, width_,
                                 queries_, scores[tile]);
      const bool whole = item_.from <= FirstOf(tile) && FirstOf(tile) + 16 <= item_.to;
#pragma unroll
      for (int m = 0; m < kRows; ++m) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          float& score = scores[tile][m][i / 4][i % 4];
          const int at = FirstOf(tile) + i / 4 * 8 + 2 * t + i % 2;
          if (!whole && (at < item_.from || at >= item_.to)) score = -INFINITY;
          greatest[m][i % 4 / 2] = fmaxf(greatest[m][i % 4 / 2], score);
        }
      }
    }
#pragma unroll
    for (int m = 0; m < kRows; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float most = greatest[m][half];
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
        if (t == 0) notes_.greatest[warp_][16 * m + 8 * half + g] = most;
      }
    }
  }

  __device__ float GreatestOf(int query) const {
    float greatest = notes_.greatest[0][query];
#pragma unroll
    for (int w = 1; w < kWarps; ++w) greatest = fmaxf(greatest, notes_.greatest[w][query]);
    return greatest * args_.scale;
  }
  __device__ float TotalOf(int query) const {
    float total = notes_.sums[0][query];
#pragma unroll
    for (int w = 1; w < kWarps; ++w) total += notes_.sums[w][query];
    return total;
  }

  // Weights, rounded as they will be used, and their sums.
  template <int kRows>
  __device__ void Weigh(const Scores<kRows>& scores) {
    const int g = thread_ % 32 / 4, t = thread_ % 4;
#pragma unroll
    for (int eight = 0; eight < 2 * kRows; ++eight) {
      if (8 * eight >= query_rows_) break;
      const int query = 8 * eight + g;
      const float greatest = GreatestOf(query);
      float sum = 0;
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        if (!Looked(tile)) continue;
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const float* const pair = &scores[tile][eight / 2][n][eight % 2 * 2];
          const uint32_t rounded = PackBF16(__expf(fmaf(pair[0], args_.scale, -greatest)),
                                            __expf(fmaf(pair[1], args_.scale, -greatest)));
          sum += __uint_as_float(rounded << 16);
          sum += __uint_as_float(rounded & 0xffff0000u);
          *reinterpret_cast<uint32_t*>(weights_ + query * kWeightStride + FirstOf(tile) + 8 * n +
                                       2 * t) = rounded;
        }
      }
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      if (t == 0) notes_.sums[warp_][query] = sum;
    }
  }

  template <int kRows>
  __device__ void Store(const float (&sums)[kRows][kGroups][2][4]) {
    const int g = thread_ % 32 / 4, t = thread_ % 4;
#pragma unroll
    for (int eight = 0; eight < 2 * kRows; ++eight) {
      const int query = 8 * eight + g;
      if (query >= query_rows_) break;
      const int m = eight / 2, half = eight % 2, head = notes_.head[query];
      const int row = notes_.row[notes_.among[query]];
      const float total = TotalOf(query);
      float* const part = args_.sums + PartOf(args_, row, head, item_.piece) * width_;
#pragma unroll
      for (int i = 0; i < kGroups; ++i) {
        const int column = 16 * (warp_ + kWarps * i);
        if (column >= width_) continue;
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const int at = column + (kE4M3 ? 4 * t + 2 * n : 8 * n + 2 * t);
          const float a = kE4M3 ? sums[m][i][0][2 * half + n] : sums[m][i][n][2 * half];
          const float b = kE4M3 ? sums[m][i][1][2 * half + n] : sums[m][i][n][2 * half + 1];
          if (args_.out == nullptr) {
            *reinterpret_cast<float2*>(part + at) = make_float2(a, b);
          } else {
            *reinterpret_cast<uint32_t*>(args_.out + row * args_.out_stride + head * width_ + at) =
                PackBF16(MergedOf(a, total), MergedOf(b, total));
          }
        }
      }
    }
    if (args_.out == nullptr && thread_ < query_rows_) {
      args_.stats[PartOf(args_, notes_.row[notes_.among[thread_]], notes_.head[thread_],
                         item_.piece)] = make_float2(GreatestOf(thread_), TotalOf(thread_));
    }
  }
  const FewArgs& few_;
  const PieceArgs& args_;
  Notes& notes_;
  const int width_;
  const FewRoom room_;
  unsigned char* const shared_;
  __nv_bfloat16* const queries_;
  __nv_bfloat16* const weights_;
  float* const angles_;
  const int thread_, warp_, first_query_, kv_head_;
  const DecodeItem item_;
  const int query_rows_;
  int64_t own_place_ = 0;  // Of the row's own position, in the pool.
};

}  // namespace conclave::worker::cuda
