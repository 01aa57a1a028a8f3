#include "tests/unit/worker/backend/cuda/platform_test_kernels.h"

namespace conclave::worker::cuda {
namespace {

__global__ void ReverseKernel(const float* in, float* out, int n) {
  __shared__ float values[256];
  const int i = static_cast<int>(threadIdx.x);
  values[i] = in[i];
  __syncthreads();
  out[i] = values[n - 1 - i];
}

__global__ void SumWarpKernel(const float* in, float* out) {
  const int lane = static_cast<int>(threadIdx.x);
  float across = in[lane], down = in[lane];
  for (int bits = 16; bits > 0; bits /= 2) {
    across += __shfl_xor_sync(0xffffffffU, across, bits);
    down += __shfl_down_sync(0xffffffffU, down, bits);
  }
  out[lane] = across;
  out[32 + lane] = __shfl_sync(0xffffffffU, down, 0);
  out[64 + lane] = static_cast<float>(__ballot_sync(0xffffffffU, in[lane] > 0));
}

__global__ void MultiplyTileKernel(const __nv_bfloat16* a, const __nv_bfloat16* b, float* d) {
  auto* shared_a = DynamicShared<__nv_bfloat16>();
  auto* shared_b = shared_a + 16 * 16;
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 16 * 16; i += 32) shared_a[i] = a[i];
  for (int i = lane; i < 16 * 16; i += 32) shared_b[i] = b[i / 16 * 8 + i % 8];
  __syncthreads();
  uint32_t left[4], right[4];
  // Matrices in the order of a's registers: rows 0-7 and 8-15 of columns 0-7, then of 8-15.
  LoadMatrixX4(left, shared_a + lane % 16 * 16 + lane / 16 * 8);
  LoadMatrixX4Transposed(right, shared_b + lane % 16 * 16 + lane / 16 * 8);
  const int row = lane / 4, col = lane % 4 * 2;
  float sums[4] = {d[row * 8 + col], d[row * 8 + col + 1], d[(row + 8) * 8 + col],
                   d[(row + 8) * 8 + col + 1]};
  const uint32_t pairs[2] = {right[0], right[1]};
  Mma16816(sums, left, pairs);
  for (int i = 0; i < 4; ++i) d[(row + i / 2 * 8) * 8 + col + i % 2] = sums[i];
}

__global__ void CopyThroughKernel(const float* in, float* out, int valid, bool wait) {
  auto* shared = DynamicShared<float>();
  const int at = 4 * static_cast<int>(threadIdx.x), half = 4 * static_cast<int>(blockDim.x);
  CopyAsync16(shared + at, in + at, static_cast<int>(threadIdx.x) < valid);
  CommitCopies();
  CopyAsync16(shared + half + at, in + half + at);
  CommitCopies();
  if (wait) WaitCopies<1>();
  for (int i = 0; i < 4; ++i) out[at + i] = shared[at + i];
  if (wait) WaitCopies<0>();
  for (int i = 0; i < 4; ++i) out[half + at + i] = shared[half + at + i];
}

__global__ void MayRaceKernel(Race race, float* out) {
  __shared__ __align__(16) float values[64];
  const int i = static_cast<int>(threadIdx.x);
  if (race == Race::kWriteEarly) out[64 * blockIdx.x + i] = 1;
  const float early = race == Race::kReadEarly ? out[64 + i] : 0;
  GridDependencyWait();
  values[i] = static_cast<float>(i) + early;
  if (race != Race::kSharedWriteRead) __syncthreads();
  const float far = values[63 - i];
  if (race != Race::kSharedReadWrite) __syncthreads();
  values[i] = far;
  if (race != Race::kWarp) __syncwarp();
  const float near = values[i ^ 1];
  __syncthreads();
  if (i < 16) {
    CopyAsync16(values + 4 * i, out + 4 * i);
    CommitCopies();
    WaitCopies<0>();
  }
  if (race != Race::kCopy) __syncthreads();
  const float copied = values[63 - i];
  out[64 + i + (race == Race::kGlobal ? 0 : 64 * blockIdx.x)] = far + near + copied;
}

__global__ void IncrementKernel(float* out, int n) {
  GridDependencyWait();
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) out[i] += 1;
}

__global__ void CountThreadsKernel(int* counts) {
  atomicAdd(&counts[0], 1);
  atomicMax(&counts[1], static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x));
}

}  // namespace

void ReverseBlock(const float* in, float* out, int n, cudaStream_t stream) {
  Launch(ReverseKernel, {1, static_cast<unsigned>(n), 0, stream}, in, out, n);
}
void SumWarp(const float* in, float* out, cudaStream_t stream) {
  Launch(SumWarpKernel, {1, 32, 0, stream}, in, out);
}
void MultiplyTile(const __nv_bfloat16* a, const __nv_bfloat16* b, float* d, cudaStream_t stream) {
  Launch(MultiplyTileKernel, {1, 32, 2 * 16 * 16 * sizeof(__nv_bfloat16), stream}, a, b, d);
}
void CopyThrough(const float* in, float* out, int valid, bool wait, cudaStream_t stream) {
  Launch(CopyThroughKernel, {1, 64, 2 * 64 * 16, stream}, in, out, valid, wait);
}
void MayRace(Race race, float* out, cudaStream_t stream) {
  Launch(MayRaceKernel, {race == Race::kNone ? 1U : 2U, 64, 0, stream, true}, race, out);
}
void Increment(float* out, int n, cudaStream_t stream) {
  Launch(IncrementKernel, {static_cast<unsigned>((n + 63) / 64), 64, 0, stream, true}, out, n);
}
void CountThreads(int* counts, int blocks, cudaStream_t stream) {
  Launch(CountThreadsKernel, {static_cast<unsigned>(blocks), 96, 0, stream}, counts);
}

}  // namespace conclave::worker::cuda
