#pragma once
#pragma GCC system_header  // #include_next is no standard.

// Stands before the toolkit's header of this name: its types and declarations for the host, which
// emulated_cuda.cc defines, and what kernels use of the language, as plain C++.

#include_next <cuda_runtime.h>

#undef __shared__
#define __shared__ static __attribute__((section("emulated_shared")))
#undef __launch_bounds__
#define __launch_bounds__(...)

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "emulated_block.h"

inline constexpr int warpSize = 32;

using EmulatedWhere = conclave::worker::cuda::emulated::Where;

inline void __syncthreads(EmulatedWhere where = EmulatedWhere::current()) {
  conclave::worker::cuda::emulated::Barrier(where);
}
inline void __syncwarp(unsigned = ~0U, EmulatedWhere where = EmulatedWhere::current()) {
  conclave::worker::cuda::emulated::SyncWarp(where);
}
inline void __threadfence() {}
inline void __threadfence_block() {}
[[noreturn]] inline void __trap() {
  conclave::worker::cuda::emulated::Fail("__trap", EmulatedWhere::current());
}

// Every lane's value, and the one of lane `from(lane)`.
template <typename T, typename From>
inline T EmulatedShuffle(unsigned mask, T value, From from, EmulatedWhere where) {
  namespace emulated = conclave::worker::cuda::emulated;
  static_assert(sizeof(T) <= 8);
  if (mask != ~0U) emulated::Fail("a shuffle without all lanes", where);
  emulated::Lane* lanes = emulated::Lanes();
  const int lane = emulated::LaneIndex();
  std::memcpy(&lanes[lane].value, &value, sizeof(T));
  emulated::Meet(nullptr, where);
  std::memcpy(&value, &lanes[from(lane)].value, sizeof(T));
  return value;
}
template <typename T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32,
                     EmulatedWhere where = EmulatedWhere::current()) {
  return EmulatedShuffle(
      mask, value, [=](int lane) { return (lane & -width) + (source & (width - 1)); }, where);
}
template <typename T>
inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32,
                         EmulatedWhere where = EmulatedWhere::current()) {
  return EmulatedShuffle(
      mask, value,
      [=](int lane) { return (lane ^ bits) < (lane & -width) + width ? lane ^ bits : lane; },
      where);
}
template <typename T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                          EmulatedWhere where = EmulatedWhere::current()) {
  return EmulatedShuffle(
      mask, value,
      [=](int lane) {
        const int at = lane + static_cast<int>(delta);
        return at < (lane & -width) + width ? at : lane;
      },
      where);
}
template <typename T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                        EmulatedWhere where = EmulatedWhere::current()) {
  return EmulatedShuffle(
      mask, value,
      [=](int lane) {
        const int at = lane - static_cast<int>(delta);
        return at >= (lane & -width) ? at : lane;
      },
      where);
}
inline unsigned __ballot_sync(unsigned mask, int predicate,
                              EmulatedWhere where = EmulatedWhere::current()) {
  namespace emulated = conclave::worker::cuda::emulated;
  if (mask != ~0U) emulated::Fail("a ballot without all lanes", where);
  emulated::Lane* lanes = emulated::Lanes();
  lanes[emulated::LaneIndex()].value = predicate != 0 ? 1 : 0;
  emulated::Meet(nullptr, where);
  unsigned bits = 0;
  for (int i = 0; i < 32; ++i) bits |= static_cast<unsigned>(lanes[i].value) << i;
  return bits;
}
inline int __any_sync(unsigned mask, int predicate,
                      EmulatedWhere where = EmulatedWhere::current()) {
  return __ballot_sync(mask, predicate, where) != 0;
}
inline int __all_sync(unsigned mask, int predicate,
                      EmulatedWhere where = EmulatedWhere::current()) {
  return __ballot_sync(mask, predicate, where) == ~0U;
}

// Atomics: one thread runs at a time. They race with nothing.
template <typename T, typename Change>
__attribute__((no_sanitize_thread, noinline)) T EmulatedAtomic(T* at, Change change) {
  const T old = *at;
  *at = change(old);
  return old;
}
inline int atomicAdd(int* at, int v) {
  return EmulatedAtomic(at, [=](int old) { return old + v; });
}
inline unsigned atomicAdd(unsigned* at, unsigned v) {
  return EmulatedAtomic(at, [=](unsigned old) { return old + v; });
}
inline unsigned long long atomicAdd(unsigned long long* at, unsigned long long v) {
  return EmulatedAtomic(at, [=](unsigned long long old) { return old + v; });
}
inline int atomicMax(int* at, int v) {
  return EmulatedAtomic(at, [=](int old) { return std::max(old, v); });
}
inline unsigned atomicMax(unsigned* at, unsigned v) {
  return EmulatedAtomic(at, [=](unsigned old) { return std::max(old, v); });
}
inline unsigned long long atomicMax(unsigned long long* at, unsigned long long v) {
  return EmulatedAtomic(at, [=](unsigned long long old) { return std::max(old, v); });
}
inline int atomicMin(int* at, int v) {
  return EmulatedAtomic(at, [=](int old) { return std::min(old, v); });
}
inline unsigned atomicMin(unsigned* at, unsigned v) {
  return EmulatedAtomic(at, [=](unsigned old) { return std::min(old, v); });
}
inline unsigned long long atomicMin(unsigned long long* at, unsigned long long v) {
  return EmulatedAtomic(at, [=](unsigned long long old) { return std::min(old, v); });
}
inline int atomicExch(int* at, int v) {
  return EmulatedAtomic(at, [=](int) { return v; });
}
inline unsigned atomicExch(unsigned* at, unsigned v) {
  return EmulatedAtomic(at, [=](unsigned) { return v; });
}
inline unsigned long long atomicExch(unsigned long long* at, unsigned long long v) {
  return EmulatedAtomic(at, [=](unsigned long long) { return v; });
}

// Numbers.
inline float rsqrtf(float x) { return 1.0F / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(uint64_t{a} * b >> 32);
}
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const uint64_t bytes = uint64_t{y} << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned s = selector >> (4 * i) & 0xf;
    unsigned byte = static_cast<unsigned>(bytes >> (8 * (s & 7))) & 0xff;
    if ((s & 8) != 0) byte = (byte & 0x80) != 0 ? 0xff : 0;
    result |= byte << (8 * i);
  }
  return result;
}
template <typename T>
inline T __ldg(const T* at) {
  return *at;
}

inline int min(int a, int b) { return std::min(a, b); }
inline int max(int a, int b) { return std::max(a, b); }
inline unsigned min(unsigned a, unsigned b) { return std::min(a, b); }
inline unsigned max(unsigned a, unsigned b) { return std::max(a, b); }
inline long min(long a, long b) { return std::min(a, b); }
inline long max(long a, long b) { return std::max(a, b); }
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }
