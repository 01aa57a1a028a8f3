#pragma once

#include <atomic>
#include <cstddef>

#include "worker/backend/cuda/platform.h"

// How much shared memory a block may ask for: 227 KB on data centre cards from sm_90 on, 163 KB on
// sm_80, 99 KB on others. Where a kernel's best shape wants more, another is taken whose results
// have the same bits.
namespace conclave::worker::cuda {

// Of the calling thread's device, its arrays of fixed size not yet taken off.
inline size_t MostShared() {
  constexpr int kDevices = 64;
  static std::atomic<int> known[kDevices];
  int device = 0, bytes = 0;
  if (cudaGetDevice(&device) != cudaSuccess || device >= kDevices) device = 0;
#ifndef CONCLAVE_CUDA_EMULATED  // Tests change it there.
  bytes = known[device].load(std::memory_order_relaxed);
#endif
  if (bytes == 0 && cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin,
                                           device) == cudaSuccess) {
    known[device].store(bytes, std::memory_order_relaxed);
  }
  return static_cast<size_t>(bytes);
}

// With less, prompts are attended by half tiles.
inline constexpr size_t kSharedOfWholeTiles = size_t{112} << 10;

// The same of the architecture that a kernel is compiled for: what can't run there needs no code.
#if defined(__CUDA_ARCH__) && \
    (__CUDA_ARCH__ == 860 || __CUDA_ARCH__ == 890 || __CUDA_ARCH__ >= 1200)
inline constexpr size_t kMostSharedHere = size_t{99} << 10;
#else
inline constexpr size_t kMostSharedHere = size_t{227} << 10;
#endif

}  // namespace conclave::worker::cuda
