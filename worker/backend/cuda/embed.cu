#include "common/check.h"
#include "worker/backend/cuda/octets.h"
#include "worker/backend/cuda/rows.h"

// One thread for each octet of each row of a table of any format. Bound by memory.
namespace conclave::worker::cuda {
namespace {

constexpr int kThreads = 128;

struct EmbedArgs {
  const int32_t *tokens, *drawn;
  TokenId first;
  Matrix table;
  float* out;
  int64_t out_stride;
  int rows, width;
  unsigned octets;
};

// Eight numbers of row `row`, times their scale. e4m3 and int4 rows are whole octets always.
template <Stored kStored, bool kWhole>
__device__ void LoadNumbers(const Matrix& table, int64_t row, int at, int width,
                            float (&v)[kOctet]) {
  const int64_t from = row * table.stride;
  if constexpr (kStored == Stored::kF32) {
    LoadOctet<kWhole>(static_cast<const float*>(table.data) + from, at, width, v);
  } else if constexpr (kStored == Stored::kBF16) {
    LoadOctet<kWhole>(static_cast<const __nv_bfloat16*>(table.data) + from, at, width, v);
  } else if constexpr (kStored == Stored::kE4M3) {
    const auto* numbers = static_cast<const uint8_t*>(table.data) + from + at;
    const uint2 bits = *reinterpret_cast<const uint2*>(numbers);
    const float scale = table.scales[row];
#pragma unroll
    for (int i = 0; i < kOctet; ++i) {
      __nv_fp8_e4m3 number;
      number.__x = static_cast<uint8_t>((i < 4 ? bits.x : bits.y) >> 8 * (i % 4));
      v[i] = static_cast<float>(number) * scale;
    }
  } else {
    const uint32_t nibbles = *reinterpret_cast<const uint32_t*>(
        static_cast<const uint8_t*>(table.data) + (from + at) / 2);
    const float scale = table.scales[row * (table.in / kInt4Group) + at / kInt4Group];
#pragma unroll
    for (int i = 0; i < kOctet; ++i) {
      v[i] = static_cast<float>(static_cast<int>(nibbles >> 4 * i & 15u) - 8) * scale;
    }
  }
}

template <Stored kStored, bool kWhole>
__global__ void __launch_bounds__(kThreads) EmbedKernel(EmbedArgs args) {
  GridDependencyWait();
  GridDependencyLaunch();
  const unsigned item = blockIdx.x * kThreads + threadIdx.x;
  const int row = static_cast<int>(item / args.octets);
  const int at = static_cast<int>(item % args.octets) * kOctet;
  if (row >= args.rows) return;
  const int32_t given = args.tokens[row];
  const int64_t token =
      static_cast<int64_t>(given < 0 ? args.drawn[-1 - given] : given) - args.first;
  float v[kOctet] = {};
  if (token >= 0 && token < args.table.out) {
    LoadNumbers<kStored, kWhole>(args.table, token, at, args.width, v);
  }
  StoreOctet<kWhole>(args.out + row * args.out_stride, at, args.width, v);
}

template <Stored kStored>
void LaunchEmbed(const EmbedArgs& args, bool whole, cudaStream_t stream) {
  const int64_t items = int64_t{args.rows} * args.octets;
  CHECK(items < int64_t{1} << 31);
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>((items + kThreads - 1) / kThreads)),
                          .block = dim3(kThreads),
                          .stream = stream,
                          .early = true};
  if constexpr (kStored == Stored::kF32 || kStored == Stored::kBF16) {
    if (!whole) return Launch(EmbedKernel<kStored, false>, shape, args);
  }
  CHECK(whole);
  Launch(EmbedKernel<kStored, true>, shape, args);
}

}  // namespace

void Embed(const BatchView& batch, TokenId first, const Matrix& table, Tensor out,
           cudaStream_t stream) {
  CHECK(out.dtype == DType::kF32 && out.cols == table.in && out.rows == batch.rows);
  if (out.rows == 0) return;
  const EmbedArgs args{.tokens = batch.tokens,
                       .drawn = batch.drawn,
                       .first = first,
                       .table = table,
                       .out = static_cast<float*>(out.data),
                       .out_stride = out.stride,
                       .rows = static_cast<int>(out.rows),
                       .width = static_cast<int>(out.cols),
                       .octets = static_cast<unsigned>((out.cols + kOctet - 1) / kOctet)};
  // Rows of bf16 start at whole octets where the stride is whole octets.
  const bool whole = WholeOctets(out.data, sizeof(float), out.stride, out.cols) &&
                     WholeOctets(table.data, 2, table.stride, out.cols);
  switch (table.stored) {
    case Stored::kF32:
      return LaunchEmbed<Stored::kF32>(args, whole, stream);
    case Stored::kBF16:
      return LaunchEmbed<Stored::kBF16>(args, whole, stream);
    case Stored::kE4M3:
      return LaunchEmbed<Stored::kE4M3>(args, whole, stream);
    case Stored::kInt4:
      return LaunchEmbed<Stored::kInt4>(args, whole, stream);
  }
}

}  // namespace conclave::worker::cuda
