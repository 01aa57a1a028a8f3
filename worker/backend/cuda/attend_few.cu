#include <algorithm>

#include "common/check.h"
#include "worker/backend/cuda/attend_few.cuh"
#include "worker/backend/cuda/shared_memory.h"

// Rotation, storing and attention of few produced rows: bound by latency, so one kernel instead of
// two, of few instructions (each is fetched once). One block: one item and one KV head, up to 64
// query rows. What earlier steps wrote of the piece comes to shared memory, whole, while earlier
// kernels still run; then the row's own key and value join it there and in the pool. No row sees
// another's own position, so no block waits for another.
namespace conclave::worker::cuda {
namespace {

constexpr int kMostBlocks = 264;  // Of a launch, padding too: about what runs at once.
constexpr int kMostWidth = 128;   // So that the rows' angles fit where the weights will be.

template <bool kE4M3, int kGroups>
__global__ void __launch_bounds__(PieceShape<kE4M3>::kThreads, 1) AttendFewKernel(FewArgs args) {
  GridDependencyLaunch();
  __shared__ FewNotes<PieceShape<kE4M3>::kWarps> notes;
  FewBlock<kE4M3, kGroups> block(args, notes, DynamicShared<unsigned char>());
  if (block.wanted()) block.Fetch();
  GridDependencyWait();
  if (block.wanted()) block.Run();
}

template <bool kE4M3, int kGroups>
void Start(const FewArgs& args, dim3 blocks, cudaStream_t stream) {
  const FewRoom room = FewRoomOf(args.pieces.head_width, kE4M3, args.query_rows);
  const LaunchShape shape{.grid = blocks,
                          .block = dim3(PieceShape<kE4M3>::kThreads),
                          .shared_bytes = static_cast<size_t>(room.bytes),
                          .stream = stream,
                          .early = true};
  Launch(AttendFewKernel<kE4M3, kGroups>, shape, args);
}

int GroupOf(const AttendArgs& args) {
  return static_cast<int>(args.q.cols) / args.kv.head_width / args.kv.kv_heads;
}
// Query rows of one item at most.
int MostQueries(const AttendArgs& args) {
  return std::min(args.batch.rows, kItemRows) * GroupOf(args);
}
// Query rows for which a block has room.
int RoomRows(const AttendArgs& args) {
  return MostQueries(args) <= 16 ? 16 : MostQueries(args) <= 32 ? 32 : kQueryRows;
}
int PartsOf(const AttendArgs& args) { return (MostQueries(args) + kQueryRows - 1) / kQueryRows; }

bool Aligned(const Tensor& x) {
  return reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && x.stride % 8 == 0;
}

}  // namespace

bool CanAttendFew(const AttendArgs& args, const FewInputs& few) {
  const int width = args.kv.head_width;
  const FewRoom room = FewRoomOf(width, args.kv.stored == Stored::kE4M3, RoomRows(args));
  constexpr size_t kNotes = sizeof(FewNotes<PieceShape<true>::kWarps>);
  if (static_cast<size_t>(room.bytes) + kNotes > MostShared()) return false;
  return args.batch.apart && args.batch.prompt_rows == 0 && args.batch.rows > 0 &&
         args.q.dtype == DType::kBF16 && args.kv.stored != Stored::kF32 && width % 16 == 0 &&
         width <= kMostWidth && args.num_items * args.kv.kv_heads * PartsOf(args) <= kMostBlocks &&
         Aligned(args.q) && Aligned(few.k) && Aligned(few.v) && few.k.stride == args.q.stride &&
         few.v.stride == args.q.stride && args.out.stride % 2 == 0;
}

void AttendFew(const AttendArgs& args, const FewInputs& few, cudaStream_t stream) {
  FewArgs to{};
  to.pieces = PiecesOf(args);
  if (args.max_pieces == 1) {
    to.pieces.out = static_cast<__nv_bfloat16*>(args.out.data);
    to.pieces.out_stride = args.out.stride;
  }
  to.k = static_cast<const __nv_bfloat16*>(few.k.data);
  to.v = static_cast<const __nv_bfloat16*>(few.v.data);
  to.keys = args.kv.keys, to.values = args.kv.values;
  to.cos = few.cos, to.sin = few.sin;
  to.positions = args.batch.positions;
  to.query_rows = RoomRows(args);
  const dim3 blocks(static_cast<unsigned>(PartsOf(args)), static_cast<unsigned>(args.kv.kv_heads),
                    static_cast<unsigned>(args.num_items));
  if (args.kv.stored == Stored::kE4M3) {
    Start<true, 1>(to, blocks, stream);
  } else if (args.kv.head_width <= 64) {
    Start<false, 1>(to, blocks, stream);
  } else {
    Start<false, 2>(to, blocks, stream);
  }
  if (to.pieces.out == nullptr) LaunchMerge(args, to.pieces.sums, to.pieces.stats, stream);
}

}  // namespace conclave::worker::cuda
