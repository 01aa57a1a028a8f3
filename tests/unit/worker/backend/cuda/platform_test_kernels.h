#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "worker/backend/cuda/platform.h"

// Small kernels that use one thing each of platform.h.
namespace conclave::worker::cuda {

// out[i] = in[n - 1 - i] through shared memory, in blocks of n <= 256 threads.
void ReverseBlock(const float* in, float* out, int n, cudaStream_t stream);
// out[lane] = the sum of all lanes' in, [3][32]: by xor, by down (lane 0's, given to all), and the
// ballot of in[lane] > 0.
void SumWarp(const float* in, float* out, cudaStream_t stream);
// d[16][8] = a[16][16] b[16][8] + d, both row-major in memory; fragments by LoadMatrixX4, b's
// transposed.
void MultiplyTile(const __nv_bfloat16* a, const __nv_bfloat16* b, float* d, cudaStream_t stream);
// out[i] = in[i], 16 bytes a thread through CopyAsync16 (rows from `valid` on become zeros), in two
// groups. Without waiting, out is read before it is there.
void CopyThrough(const float* in, float* out, int valid, bool wait, cudaStream_t stream);
// What a kernel may do wrong: nothing, or two accesses that nothing orders.
enum class Race {
  kNone,
  kSharedWriteRead,
  kSharedReadWrite,
  kWarp,
  kGlobal,
  kWriteEarly,
  kReadEarly,
  kCopy
};
// Blocks of 64 threads exchange numbers; out has room for 192.
void MayRace(Race race, float* out, cudaStream_t stream);
// out[i] += 1, for `n` numbers, in blocks of 64.
void Increment(float* out, int n, cudaStream_t stream);
// counts[0] += threads, counts[1] = the greatest index; integers.
void CountThreads(int* counts, int blocks, cudaStream_t stream);

}  // namespace conclave::worker::cuda
