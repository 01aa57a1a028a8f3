#include <cmath>
#include <type_traits>

#include "common/check.h"
#include "worker/backend/cuda/attend_products.cuh"
#include "worker/backend/cuda/attend_tiles.cuh"
#include "worker/backend/cuda/octets.h"

// Rotation, storing and attention of one produced row that is alone in its batch: bound by latency,
// so one kernel instead of two, of few instructions (each is fetched once). One block: one piece
// and one KV head. What earlier steps wrote of the piece comes to shared memory, whole, while
// earlier kernels still run; then the row's own key and value join it there and in the pool.
//
// The bits are those of RopeStore and of AttendPieces (attend_decode.cu): a position belongs to the
// same warp and lane, sums run in the same order, and what AttendPieces adds beyond what is seen
// are zeros.
namespace conclave::worker::cuda {
namespace {

constexpr int kRows = 16;         // Query rows: heads of one KV head.
constexpr int kMostBlocks = 132;  // Of a launch: they all run at once.
constexpr int kMostHalf = 128;    // Of a head.
constexpr size_t kMostShared = 227 * 1024 - 4096;

struct RowArgs {
  PieceArgs pieces;  // q, out: of the row.
  const __nv_bfloat16 *k, *v;
  void *keys, *values;     // The pool.
  const float *cos, *sin;  // [positions][E / 2]
  const int32_t* position;
};

// Shared memory: keys and values of the piece, as they are stored, then queries, then weights.
struct RowRoom {
  int row_bytes;
  int values, queries, weights, bytes;
};
__host__ __device__ inline RowRoom RowRoomOf(int width, bool e4m3) {
  RowRoom room;
  room.row_bytes = e4m3 ? (width / 16 | 1) * 16 : (width + 8) * 2;
  room.values = kPiece * room.row_bytes;
  room.queries = 2 * room.values;
  room.weights = room.queries + kRows * (width + 8) * 2;
  room.bytes = room.weights + kRows * kWeightStride * 2;
  return room;
}

template <int kWarps>
struct RowNotes {
  float cos[kMostHalf], sin[kMostHalf];
  float greatest[kWarps][kRows];  // Raw scores.
  float sums[kWarps][kRows];      // Of weights.
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
class RowBlock {
  static constexpr int kWarps = PieceShape<kE4M3>::kWarps, kTile = PieceShape<kE4M3>::kTile;
  static constexpr int kTiles = PieceShape<kE4M3>::kTiles;
  static constexpr int kThreads = PieceShape<kE4M3>::kThreads;
  using Notes = RowNotes<kWarps>;
  using Kept = std::conditional_t<kE4M3, __nv_fp8_e4m3, __nv_bfloat16>;

 public:
  __device__ RowBlock(const RowArgs& row, Notes& notes, unsigned char* shared)
      : row_(row),
        args_(row.pieces),
        notes_(notes),
        width_(row.pieces.head_width),
        room_(RowRoomOf(row.pieces.head_width, kE4M3)),
        shared_(shared),
        queries_(reinterpret_cast<__nv_bfloat16*>(shared + room_.queries)),
        weights_(reinterpret_cast<__nv_bfloat16*>(shared + room_.weights)),
        thread_(static_cast<int>(threadIdx.x)),
        warp_(thread_ / 32),
        kv_head_(static_cast<int>(blockIdx.x) % row.pieces.kv_heads),
        item_(row.pieces.items[static_cast<int>(blockIdx.x) / row.pieces.kv_heads]),
        position_(*row.position) {}

  __device__ bool wanted() const { return item_.rows > 0; }

  // Before earlier kernels are done: what earlier steps left.
  __device__ void Fetch() {
    const int half = width_ / 2;
    for (int i = thread_; i < half; i += kThreads) {
      notes_.cos[i] = row_.cos[static_cast<int64_t>(position_) * half + i];
      notes_.sin[i] = row_.sin[static_cast<int64_t>(position_) * half + i];
    }
    const int row_bytes = kE4M3 ? width_ : 2 * width_;
    const int first = item_.from / 32 * 32, last = (item_.to + 31) / 32 * 32;
    for (int at = first + thread_ / 8; at < last; at += kThreads / 8) {
      if (at == own()) continue;
      const bool seen = item_.from <= at && at < item_.to;  // Else zeros, whose weights are 0.
      const int64_t place = seen ? PlaceOf(at) * row_bytes : 0;
      for (int c = thread_ % 8 * 16; c < row_bytes; c += 128) {
        unsigned char* const to = shared_ + at * room_.row_bytes + c;
        CopyAsync16(to, static_cast<const char*>(args_.keys) + place + c, seen);
        CopyAsync16(to + room_.values, static_cast<const char*>(args_.values) + place + c, seen);
      }
    }
    CommitCopies();
    __syncthreads();
  }

  __device__ void Run() {
    Rotate();
    WaitCopies<0>();
    __syncthreads();
    Score();
    __syncthreads();
    Weigh();
    __syncthreads();
    Sum();
  }

 private:
  // The row's own place in the piece, or -1.
  __device__ int own() const { return position_ / kPiece == item_.piece ? position_ % kPiece : -1; }
  // Of a position of the piece, in rows of a head, in the pool.
  __device__ int64_t PlaceOf(int at) const {
    const int64_t block = args_.blocks[item_.blocks + at / kKvBlock];
    return (block * args_.kv_heads + kv_head_) * kKvBlock + at % kKvBlock;
  }

  // Octets of pairs of the queries and the key, octets of the value, one after another.
  __device__ void Rotate() {
    const int half = width_ / 2, parts = half / kOctet, turned = (args_.group + 1) * parts;
    for (int unit = thread_; unit < turned + 2 * parts; unit += kThreads) {
      const bool is_v = unit >= turned;
      const int head = unit / parts;
      const int j = is_v ? (unit - turned) * kOctet : unit % parts * kOctet;
      const bool is_q = head < args_.group;
      if (!is_q && own() < 0) continue;
      const __nv_bfloat16* const from = (is_v   ? row_.v + kv_head_ * width_
                                         : is_q ? static_cast<const __nv_bfloat16*>(args_.q) +
                                                      (kv_head_ * args_.group + head) * width_
                                                : row_.k + kv_head_ * width_) +
                                        j;
      float a[kOctet], b[kOctet];
      LoadOctet(from, a);
      if (is_v) {
        StoreOwn(row_.values, room_.values, j, a);
        continue;
      }
      LoadOctet(from + half, b);
#pragma unroll
      for (int i = 0; i < kOctet; ++i) {
        const float low = a[i], cos = notes_.cos[j + i], sin = notes_.sin[j + i];
        a[i] = fmaf(low, cos, -(b[i] * sin));
        b[i] = fmaf(b[i], cos, low * sin);
      }
      if (is_q) {
        StoreQuery<kE4M3>(queries_ + head * (width_ + 8), j, a);
        StoreQuery<kE4M3>(queries_ + head * (width_ + 8), j + half, b);
      } else {
        StoreOwn(row_.keys, 0, j, a);
        StoreOwn(row_.keys, 0, j + half, b);
      }
    }
  }
  __device__ void StoreOwn(void* pool, int room, int at, const float (&v)[kOctet]) {
    StoreOctet(static_cast<Kept*>(pool) + PlaceOf(own()) * width_ + at, v);
    StoreOctet(reinterpret_cast<Kept*>(shared_ + room + own() * room_.row_bytes) + at, v);
  }

  // Whether the 32 positions with this warp's 16 of a tile are looked at, and those seen.
  __device__ int FirstOf(int tile) const { return tile * kTile + 16 * warp_; }
  __device__ bool Looked(int tile) const {
    return FirstOf(tile) / 32 * 32 + 32 > item_.from && FirstOf(tile) / 32 * 32 < item_.to;
  }

  __device__ void Score() {
    const int g = thread_ % 32 / 4, t = thread_ % 4;
    float greatest[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 8; ++i) scores_[tile][0][i / 4][i % 4] = 0;
      if (!Looked(tile)) continue;
      MultiplyKeys<kE4M3, 1>(shared_ + FirstOf(tile) * room_.row_bytes, room_.row_bytes, width_,
                             queries_, scores_[tile]);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        float& score = scores_[tile][0][i / 4][i % 4];
        const int at = FirstOf(tile) + i / 4 * 8 + 2 * t + i % 2;
        if (at < item_.from || at >= item_.to) score = -INFINITY;
        greatest[i % 4 / 2] = fmaxf(greatest[i % 4 / 2], score);
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float most = greatest[half];
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
      if (t == 0) notes_.greatest[warp_][8 * half + g] = most;
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
  __device__ void Weigh() {
    const int g = thread_ % 32 / 4, t = thread_ % 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (8 * half >= args_.group) break;
      const int query = 8 * half + g;
      const float greatest = GreatestOf(query);
      float sum = 0;
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        if (!Looked(tile)) continue;
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const float* const pair = &scores_[tile][0][n][2 * half];
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

  // Values by their weights, and what becomes of them.
  __device__ void Sum() {
    float sums[1][kGroups][2][4] = {};
#pragma unroll 2
    for (int at = item_.from / 32 * 32; at < item_.to; at += 32) {
      MultiplyValues<kE4M3>(shared_ + room_.values + at * room_.row_bytes, room_.row_bytes, width_,
                            warp_, kWarps, weights_ + at, kWeightStride, sums);
    }
    const int g = thread_ % 32 / 4, t = thread_ % 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = 8 * half + g;
      if (query >= args_.group) break;
      const int head = kv_head_ * args_.group + query;
      const float total = TotalOf(query);
      float* const part = args_.sums + PartOf(args_, 0, head, item_.piece) * width_;
#pragma unroll
      for (int i = 0; i < kGroups; ++i) {
        const int column = 16 * (warp_ + kWarps * i);
        if (column >= width_) continue;
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const int at = column + (kE4M3 ? 4 * t + 2 * n : 8 * n + 2 * t);
          const float a = kE4M3 ? sums[0][i][0][2 * half + n] : sums[0][i][n][2 * half];
          const float b = kE4M3 ? sums[0][i][1][2 * half + n] : sums[0][i][n][2 * half + 1];
          if (args_.out == nullptr) {
            *reinterpret_cast<float2*>(part + at) = make_float2(a, b);
          } else {
            *reinterpret_cast<uint32_t*>(args_.out + head * width_ + at) =
                PackBF16(MergedOf(a, total), MergedOf(b, total));
          }
        }
      }
    }
    if (args_.out == nullptr && thread_ < args_.group) {
      args_.stats[PartOf(args_, 0, kv_head_ * args_.group + thread_, item_.piece)] =
          make_float2(GreatestOf(thread_), TotalOf(thread_));
    }
  }

  const RowArgs& row_;
  const PieceArgs& args_;
  Notes& notes_;
  const int width_;
  const RowRoom room_;
  unsigned char* const shared_;
  __nv_bfloat16* const queries_;
  __nv_bfloat16* const weights_;
  const int thread_, warp_, kv_head_;
  const DecodeItem item_;
  const int position_;
  float scores_[kTiles][1][2][4];
};

template <bool kE4M3, int kGroups>
__global__ void __launch_bounds__(PieceShape<kE4M3>::kThreads, 1) AttendRowKernel(RowArgs args) {
  GridDependencyLaunch();
  __shared__ RowNotes<PieceShape<kE4M3>::kWarps> notes;
  RowBlock<kE4M3, kGroups> block(args, notes, DynamicShared<unsigned char>());
  if (block.wanted()) block.Fetch();
  GridDependencyWait();
  if (block.wanted()) block.Run();
}

template <bool kE4M3, int kGroups>
void Start(const RowArgs& args, int num_items, cudaStream_t stream) {
  const RowRoom room = RowRoomOf(args.pieces.head_width, kE4M3);
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(num_items * args.pieces.kv_heads)),
                          .block = dim3(PieceShape<kE4M3>::kThreads),
                          .shared_bytes = static_cast<size_t>(room.bytes),
                          .stream = stream,
                          .early = true};
  Launch(AttendRowKernel<kE4M3, kGroups>, shape, args);
}

bool Aligned(const Tensor& x) { return reinterpret_cast<uintptr_t>(x.data) % 16 == 0; }

}  // namespace

bool CanAttendRow(const AttendArgs& args, const RowInputs& row) {
  const int width = args.kv.head_width;
  const bool e4m3 = args.kv.stored == Stored::kE4M3;
  return args.batch.rows == 1 && args.batch.prompt_rows == 0 && args.q.dtype == DType::kBF16 &&
         args.kv.stored != Stored::kF32 && width % 16 == 0 && width <= 2 * kMostHalf &&
         args.q.cols / width / args.kv.kv_heads <= kRows &&
         args.num_items * args.kv.kv_heads <= kMostBlocks && Aligned(args.q) && Aligned(row.k) &&
         Aligned(row.v) && static_cast<size_t>(RowRoomOf(width, e4m3).bytes) <= kMostShared;
}

void AttendRow(const AttendArgs& args, const RowInputs& row, cudaStream_t stream) {
  CHECK(CanAttendRow(args, row));
  const int heads = static_cast<int>(args.q.cols) / args.kv.head_width;
  RowArgs to{};
  to.pieces = PiecesOf(args);
  if (args.max_pieces == 1) to.pieces.out = static_cast<__nv_bfloat16*>(args.out.data);
  to.k = static_cast<const __nv_bfloat16*>(row.k.data);
  to.v = static_cast<const __nv_bfloat16*>(row.v.data);
  to.keys = args.kv.keys, to.values = args.kv.values;
  to.cos = row.cos, to.sin = row.sin;
  to.position = args.batch.positions;
  CHECK(heads % args.kv.kv_heads == 0);
  const int width = args.kv.head_width;
  if (args.kv.stored == Stored::kE4M3) {
    width <= 128 ? Start<true, 1>(to, args.num_items, stream)
                 : Start<true, 2>(to, args.num_items, stream);
  } else {
    width <= 64 ? Start<false, 1>(to, args.num_items, stream)
                : Start<false, 2>(to, args.num_items, stream);
  }
  if (to.pieces.out == nullptr) LaunchMerge(args, to.pieces.sums, to.pieces.stats, stream);
}

}  // namespace conclave::worker::cuda
