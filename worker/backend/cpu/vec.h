#pragma once

// Sixteen floats, whatever the instruction set; included only by kernels.inc, once for each set.
// Everything but the fused multiply-add is left to the compiler's own vectors.

#include <cstdint>
#include <cstring>
#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace conclave::worker::CONCLAVE_ISA {

typedef float Vec __attribute__((vector_size(64)));
typedef int32_t IntVec __attribute__((vector_size(64)));
typedef uint32_t UintVec __attribute__((vector_size(64)));
typedef uint64_t WideUintVec __attribute__((vector_size(128)));
#define VEC_INLINE static inline __attribute__((always_inline))

VEC_INLINE Vec Load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
VEC_INLINE void Store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }
VEC_INLINE Vec Broadcast(float x) { return Vec{} + x; }
constexpr IntVec kLanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

VEC_INLINE WideUintVec Widened(UintVec v) { return __builtin_convertvector(v, WideUintVec); }
VEC_INLINE UintVec Lower(WideUintVec v) { return __builtin_convertvector(v, UintVec); }
VEC_INLINE UintVec Upper(WideUintVec v) { return __builtin_convertvector(v >> 32, UintVec); }

// A number as a type.
template <int kN>
struct Count {
  static constexpr int kCount = kN;
};

// The bf16 value is the upper half of the f32 one: exact.
VEC_INLINE Vec LoadBf16(const uint16_t* p) {
#if defined(__AVX512F__)
  __m256i half;
  std::memcpy(&half, p, sizeof half);
  return (Vec)_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
#else
  IntVec bits;
  for (int i = 0; i < 16; ++i) bits[i] = static_cast<int32_t>(static_cast<uint32_t>(p[i]) << 16);
  return (Vec)bits;
#endif
}

// Exact, subnormal numbers too. Without the instruction: the bits of an f16, moved to an f32's
// places, are its value times 2^-112.
VEC_INLINE Vec LoadF16(const uint16_t* p) {
#if defined(__AVX512F__)
  __m256i half;
  std::memcpy(&half, p, sizeof half);
  return (Vec)_mm512_cvtph_ps(half);
#else
  IntVec bits;
  for (int i = 0; i < 16; ++i) bits[i] = p[i];
  const IntVec magnitude = (bits & 0x7fff) << 13;
  const IntVec finite = (IntVec)((Vec)magnitude * 0x1p112f);
  const IntVec value = magnitude < (0x7c00 << 13) ? finite : (magnitude | 0x7f800000);
  return (Vec)(value | (bits & 0x8000) << 16);
#endif
}

VEC_INLINE Vec Fma(Vec a, Vec b, Vec c) {
#if defined(__AVX512F__)
  return (Vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
  union Halves {
    Vec whole;
    __m256 half[2];
  };
  Halves x{a}, y{b}, z{c};
  z.half[0] = _mm256_fmadd_ps(x.half[0], y.half[0], z.half[0]);
  z.half[1] = _mm256_fmadd_ps(x.half[1], y.half[1], z.half[1]);
  return z.whole;
#else
  for (int i = 0; i < 16; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
#endif
}

VEC_INLINE Vec Max(Vec a, Vec b) { return a > b ? a : b; }

// A fixed tree over the lanes.
VEC_INLINE float SumLanes(Vec v) {
  float x[16];
  Store(x, v);
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) x[i] += x[i + width];
  }
  return x[0];
}
VEC_INLINE float MaxLanes(Vec v) {
  float most = v[0];
  for (int i = 1; i < 16; ++i) most = v[i] > most ? v[i] : most;
  return most;
}

// e^x within 2 units in the last place: range reduction by ln 2 in two parts, then a polynomial of
// degree 6 (Taylor's terms, enough for |r| <= ln 2 / 2). Below -87 the result is 0.
VEC_INLINE Vec Exp(Vec x) {
  const Vec magic = Broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer.
  const Vec clamped = Max(x, Broadcast(-88.0f));
  const Vec capped = clamped < 88.0f ? clamped : Broadcast(88.0f);
  const Vec n = Fma(capped, Broadcast(1.44269504f), magic) - magic;
  Vec r = Fma(n, Broadcast(-0.693359375f), capped);
  r = Fma(n, Broadcast(2.12194440e-4f), r);
  Vec p = Broadcast(1.0f / 720);
  p = Fma(p, r, Broadcast(1.0f / 120));
  p = Fma(p, r, Broadcast(1.0f / 24));
  p = Fma(p, r, Broadcast(1.0f / 6));
  p = Fma(p, r, Broadcast(0.5f));
  p = Fma(p, r, Broadcast(1.0f));
  p = Fma(p, r, Broadcast(1.0f));
  const IntVec exponent = (__builtin_convertvector(n, IntVec) + 127) << 23;
  const Vec result = p * (Vec)exponent;
  return x < -87.0f ? Vec{} : result;
}

}  // namespace conclave::worker::CONCLAVE_ISA
