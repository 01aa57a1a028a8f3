#pragma once

#include <cstdint>

namespace conclave::worker {

inline constexpr int kPanel = 16;    // Output columns in one panel of a packed weight.
inline constexpr int kKvBlock = 16;  // Tokens in one KV block.
inline constexpr int kKvSplit =
    256;  // Keys are attended in pieces cut at multiples of this position.

// How a weight's numbers are kept: as its file has them.
enum class Stored : uint8_t { kF32, kBF16, kF16 };

// A weight as the kernels read it: panels of 16 output columns, [ceil(out/16)][in][16], the last
// padded with zeros.
struct PackedPanels {
  const void* data = nullptr;
  Stored stored = Stored::kF32;
  int64_t in = 0, out = 0;
};

// One KV pool's layer: K is [block][kv_head][E][16 tokens], V is [block][kv_head][16 tokens][padded
// E].
struct KvLayer {
  float* keys = nullptr;
  float* values = nullptr;
  int kv_heads = 0, head_width = 0, padded_width = 0;

  int64_t key_block() const { return int64_t{kv_heads} * head_width * kKvBlock; }
  int64_t value_block() const { return int64_t{kv_heads} * padded_width * kKvBlock; }
};

// One row's attention: query heads [heads][E] against positions first..position of a block table.
struct AttendRow {
  const float* query = nullptr;
  float* out = nullptr;
  const int32_t* blocks = nullptr;
  int32_t first = 0, position = 0;
};

// The functions of one instruction set. All sets give the same bits: every output element is one
// chain of fused multiply-adds in a fixed order, and vector lanes are always 16 wide.
struct Kernels {
  const char* name;
  // out[n][c] = sum over k of x[n][k] * w[k][c], k rising, for the columns of panels begin..end.
  // Compute-bound for many rows, bound by the weight's bytes for few.
  void (*linear)(const float* x, int64_t x_stride, int64_t rows, const PackedPanels& w,
                 int64_t begin, int64_t end, float* out, int64_t out_stride);
  // out = x * rsqrt(mean(x^2) + eps) * gain
  void (*rms_norm)(const float* x, const float* gain, float eps, int64_t width, float* out);
  // out = silu(gate) * up
  void (*silu_mul)(const float* gate, const float* up, int64_t width, float* out);
  // Softmax attention of `heads` query heads that read one KV head.
  void (*attend)(const KvLayer& kv, const AttendRow& row, int kv_head, int heads, float scale);
  // x = exp(x - max) / sum, both in a fixed order.
  void (*softmax)(float* x, int64_t width);
  // max and sum of exp(x - max), both in a fixed order.
  void (*log_sum_exp)(const float* x, int64_t width, float* max, float* sum);
  // out[i] = NoiseUniform(seed, agent, index, first + i), to the bit.
  void (*noise_uniforms)(uint64_t seed, uint32_t agent, uint32_t index, uint32_t first,
                         int64_t width, float* out);
};

const Kernels& PlainKernels();
const Kernels& Avx2Kernels();    // REQUIRES: avx2, fma.
const Kernels& Avx512Kernels();  // REQUIRES: avx512f.

}  // namespace conclave::worker
