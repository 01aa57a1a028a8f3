#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/types.h"
#include "worker/backend/tensor.h"

namespace conclave::worker {

// Memory of a device, owned. Aligned to 64 bytes, zeroed.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual float* data() = 0;
};

// A matrix as its backend packed it: opaque.
class Weight {
 public:
  virtual ~Weight() = default;
  virtual int64_t in() const = 0;
  virtual int64_t out() const = 0;
};

// Gives a matrix row by row while it is packed: row i is the weights of output i.
class RowSource {
 public:
  virtual ~RowSource() = default;
  virtual int64_t rows() const = 0;
  virtual int64_t cols() const = 0;
  virtual DType dtype() const = 0;
  // `to` has cols() elements of dtype().
  virtual void Read(int64_t row, void* to) const = 0;
};

// One KV pool on one rank: [layer][block], keys and values of kv_heads heads of head_width.
struct KvPool {
  std::unique_ptr<Buffer> keys, values;
  int layers = 0, num_blocks = 0, kv_heads = 0, head_width = 0;
};

// Where a row stands: its block table and position.
struct RowPlace {
  const int32_t* blocks = nullptr;
  int32_t position = 0;
};

// cos and sin of every position: [positions][E / 2] each.
struct RopeTable {
  const float* cos = nullptr;
  const float* sin = nullptr;
};

// One expert of a mixture: expert(x) = (silu(x G^T) * x U^T) D^T.
struct ExpertWeights {
  const Weight *gate = nullptr, *up = nullptr, *down = nullptr;
};

// How a mixture chooses: the `chosen` greatest of softmax(scores), ties to the lower expert; their
// weights are divided by their sum when `renormalise`.
struct ExpertChoice {
  int chosen = 0;
  bool renormalise = false;
};

// One draw from one rank's shard of a row's logits.
struct ShardDraw {
  const float* logits = nullptr;  // [width], raw.
  int64_t width = 0;
  TokenId first = 0;  // The id of logits[0].
  float temperature = 1;
  uint64_t seed = 0;
  uint32_t agent = 0, index = 0;
  // What penalties and bias add, by id of this shard, ascending; the result is what is drawn from.
  const std::vector<std::pair<TokenId, std::function<float(float)>>>* adjust = nullptr;
  int keep = 0;  // > 0: give the `keep` greatest, for top-k, top-p and min-p.
};

struct Candidate {
  float value = 0;  // Adjusted logit over temperature; of `best`, with its Gumbel noise. Greedy:
                    // the adjusted logit.
  float raw = 0;    // The logit as the model gave it.
  TokenId id = 0;
};

inline constexpr int kConfidenceTokens = 20;  // Over which top_logprob_mean is taken.

struct ShardResult {
  float max = 0, sum = 0;       // Of the raw logits: greatest, and sum of exp(x - max).
  std::vector<float> top_raw;   // The kConfidenceTokens greatest raw logits, falling.
  Candidate best;               // What this shard would draw; ties to the lower id.
  std::vector<Candidate> kept;  // By falling value, ties to the lower id.
};

// One device of one rank: its memory, and the operations that models are made of. Work runs in call
// order; what went wrong is returned by the next Synchronize(). Every result obeys the rule of
// bits: an output element depends on its own row only, through one fixed order of summation,
// whatever the number of rows or threads. One thread at a time.
class Device {
 public:
  virtual ~Device() = default;
  // "cpu/avx512"
  virtual std::string name() const = 0;
  // kResourceExhausted with the size when there is no room.
  virtual absl::StatusOr<std::unique_ptr<Buffer>> Allocate(size_t floats) = 0;
  // Packs once; reads the source once, in order.
  virtual absl::StatusOr<std::unique_ptr<Weight>> Pack(const RowSource& source) = 0;
  virtual absl::StatusOr<KvPool> AllocateKv(int layers, int num_blocks, int kv_heads,
                                            int head_width) = 0;

  // out[n] = x[n] W^T; x [N, in], out [N, out].
  virtual void Linear(Tensor x, const Weight& weight, Tensor out) = 0;
  // out[n] = row ids[n] - first of the table, zeros when it is not there; table [V', D] packed as
  // Linear's weight [V', D].
  virtual void Embed(const std::vector<TokenId>& ids, TokenId first, const Weight& table,
                     Tensor out) = 0;
  // out = x * rsqrt(mean(x^2) + eps) * gain [D]; out may be x.
  virtual void RmsNorm(Tensor x, const float* gain, float eps, Tensor out) = 0;
  // x += y, and x += bias [D] when it is given.
  virtual void Add(Tensor x, Tensor y, const float* bias) = 0;
  virtual void AddBias(Tensor x, const float* bias) = 0;
  // gate = silu(gate) * up
  virtual void SiluMul(Tensor gate, Tensor up) = 0;
  // out[n] = sum over x[n]'s chosen experts e, rising, of weight_e * expert_e(x[n]). scores [N,
  // experts] are overwritten; out is not x.
  virtual void MixExperts(Tensor x, Tensor scores, const std::vector<ExpertWeights>& experts,
                          const ExpertChoice& choice, Tensor out) = 0;
  // Rotates q [N, H*E] and k [N, K*E] in halves, and writes k and v into the layer of the pool.
  virtual void RopeStore(Tensor q, Tensor k, Tensor v, const RopeTable& rope,
                         const std::vector<RowPlace>& rows, KvPool& pool, int layer) = 0;
  // out [N, H*E] = softmax(scale * q k^T) v over each row's visible positions: itself and all
  // earlier ones, or with a window > 0 itself and window - 1 earlier ones.
  virtual void Attend(Tensor q, const std::vector<RowPlace>& rows, KvPool& pool, int layer,
                      float scale, int window, Tensor out) = 0;
  // The first `tokens` tokens of a block, on all layers.
  virtual void CopyBlock(KvPool& pool, int from, int to, int tokens) = 0;
  virtual ShardResult Draw(const ShardDraw& draw) = 0;
  virtual absl::Status Synchronize() = 0;
};

}  // namespace conclave::worker
