#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/types.h"
#include "worker/backend/device_memory.h"
#include "worker/backend/shard_draw.h"
#include "worker/backend/tensor.h"

namespace conclave::worker {

// Consecutive rows of one sequence, at consecutive positions.
struct Run {
  int32_t first_row = 0, rows = 0;
  int32_t position = 0;             // Of the first row.
  const int32_t* blocks = nullptr;  // The sequence's block table.
  int32_t num_blocks = 0;
};

// The rows of one step. Prompt rows stand first: a token's kind decides its arithmetic.
struct Batch {
  // Below 0: t is what draw -1 - t of the last BeginDraw() gave, on a device that feeds draws.
  std::vector<TokenId> tokens;
  std::vector<Run> runs;             // In order; each is all prompt rows or all produced ones.
  std::vector<int32_t> logits_rows;  // Rows whose logits are wanted, rising.
  int prompt_rows = 0;
};

// How many rows the operations compute: at least what was given, for a device may round up.
struct BatchSize {
  int64_t rows = 0, prompt_rows = 0, logits_rows = 0;
};

// A norm of whole rows, as RmsNorm(): gain [cols].
struct RowNorm {
  const float* gain = nullptr;
  float eps = 0;
};

// cos and sin of every position: [positions][E / 2] each.
struct RopeTable {
  const float* cos = nullptr;
  const float* sin = nullptr;
};

// One expert of a mixture: expert(x) = (silu(x G^T) * x U^T) D^T; gate_up is [G; U].
struct ExpertWeights {
  const Weight *gate_up = nullptr, *down = nullptr;
};

// How a mixture chooses: the `chosen` greatest of softmax(scores), ties to the lower expert; their
// weights are divided by their sum when `renormalise`.
struct ExpertChoice {
  int chosen = 0;
  bool renormalise = false;
};

// One device of one rank: its memory, and the operations that models are made of. Work runs in call
// order; what went wrong is returned by the next Synchronize(), Download() or TakeDraw(). Every
// result obeys the rule of bits: an output element depends on its own row only, through one order
// of summation that the row's kind fixes, whatever the number of rows or threads. One thread at a
// time.
//
// Types: the residual, norm gains, biases, RoPE tables and logits are f32. What products read and
// what attention reads is of ActivationType().
class Device {
 public:
  virtual ~Device() = default;
  // Backend, instruction set, arithmetic and KV: "cpu/avx512/f32/kv-f32",
  // "cuda/sm_90x132/bf16/kv-bf16/lt130000".
  virtual std::string name() const = 0;
  // Whether prompt rows and produced rows of the same tokens have different bits: then cached
  // blocks of the one never stand for the other.
  virtual bool kinds_differ() const = 0;
  virtual DType ActivationType(DType weights) const = 0;
  // Whether work goes on after a call has returned, and a batch's tokens may be draws that nobody
  // has taken yet.
  virtual bool feeds_draws() const = 0;

  // kResourceExhausted with the size when there is no room.
  virtual absl::StatusOr<std::unique_ptr<Buffer>> Allocate(DType dtype, size_t count) = 0;
  // f32, in device memory.
  virtual absl::StatusOr<std::unique_ptr<Buffer>> Upload(std::span<const float> values) = 0;
  // Waits, then copies a dense or strided tensor of f32 to [rows][cols] on the host.
  virtual absl::Status Download(Tensor from, float* to) = 0;
  // Packs the sources' rows, one below the other, as one matrix; reads each source once, in order.
  // All have the same width and type.
  virtual absl::StatusOr<std::unique_ptr<Weight>> Pack(
      const std::vector<const RowSource*>& sources) = 0;
  virtual absl::StatusOr<KvPool> AllocateKv(int layers, int num_blocks, int kv_heads,
                                            int head_width) = 0;

  // The most to which Begin() rounds a batch of at most `rows` rows, or logits rows, up.
  virtual int64_t Padded(int64_t rows) const = 0;
  // The operations that follow are about these rows. What it points to must live until Repeat()
  // has returned.
  virtual BatchSize Begin(const Batch& batch) = 0;
  // Calls `operations`, or does again what they did for a batch of the same size: they may depend
  // on nothing but what Begin() returned.
  virtual absl::Status Repeat(const std::function<absl::Status()>& operations) = 0;

  // out[n] = x[n] W^T (+ out[n] with `add`); x [N, in], out [N, out] of f32 or the activations'
  // type. The first `prompt_rows` rows are prompt rows.
  virtual void Linear(Tensor x, int64_t prompt_rows, const Weight& weight, bool add,
                      Tensor out) = 0;
  // out = silu(x G^T + bias[:F]) * (x U^T + bias[F:]); weight is [G; U], bias [2F] or null.
  virtual void GateUp(Tensor x, int64_t prompt_rows, const Weight& weight, const float* bias,
                      Tensor out) = 0;
  // out[n] = row tokens[n] - first of the table, zeros when it is not there; table [V', D] packed
  // as Linear's weight [V', D].
  virtual void Embed(TokenId first, const Weight& table, Tensor out) = 0;
  // out[i] = x[logits_rows[i]].
  virtual void SelectLogitsRows(Tensor x, Tensor out) = 0;
  // Every head of every row alone (heads = 1: the whole row): out = x * rsqrt(mean(x^2) + eps) *
  // gain [cols / heads]; out may be x.
  virtual void RmsNorm(Tensor x, int heads, const float* gain, float eps, Tensor out) = 0;
  // As RmsNorm(x, 1, ..., normed), then Linear or GateUp of it, bit for bit; `normed` is scratch.
  virtual void NormLinear(Tensor x, const RowNorm& norm, Tensor normed, int64_t prompt_rows,
                          const Weight& weight, Tensor out) {
    RmsNorm(x, 1, norm.gain, norm.eps, normed);
    Linear(normed, prompt_rows, weight, /*add=*/false, out);
  }
  virtual void NormGateUp(Tensor x, const RowNorm& norm, Tensor normed, int64_t prompt_rows,
                          const Weight& weight, const float* bias, Tensor out) {
    RmsNorm(x, 1, norm.gain, norm.eps, normed);
    GateUp(normed, prompt_rows, weight, bias, out);
  }
  // x += y, and x += bias [D] when it is given.
  virtual void Add(Tensor x, Tensor y, const float* bias) = 0;
  virtual void AddBias(Tensor x, const float* bias) = 0;
  // out[n] = sum over x[n]'s chosen experts e, rising, of weight_e * expert_e(x[n]). scores [N,
  // experts] are overwritten; out is not x.
  virtual void MixExperts(Tensor x, Tensor scores, const std::vector<ExpertWeights>& experts,
                          const ExpertChoice& choice, Tensor out) = 0;
  // Rotates q [N, H*E] and k [N, K*E] in halves, and writes k and v into the layer of the pool.
  virtual void RopeStore(Tensor q, Tensor k, Tensor v, const RopeTable& rope, KvPool& pool,
                         int layer) = 0;
  // out [N, H*E] = softmax(scale * q k^T) v over each row's visible positions: itself and all
  // earlier ones, or with a window > 0 itself and window - 1 earlier ones.
  virtual void Attend(Tensor q, KvPool& pool, int layer, float scale, int window, Tensor out) = 0;
  // RopeStore, then Attend, bit for bit; q and k are scratch.
  virtual void RopeAttend(Tensor q, Tensor k, Tensor v, const RopeTable& rope, KvPool& pool,
                          int layer, float scale, int window, Tensor out) {
    RopeStore(q, k, v, rope, pool, layer);
    Attend(q, pool, layer, scale, window, out);
  }
  // The first `tokens` tokens of a block, on all layers.
  virtual void CopyBlock(KvPool& pool, int from, int to, int tokens) = 0;
  // Begins to draw; at most two draws may wait to be taken. `width`, `first`: of this rank's shard,
  // the id of logits[0].
  virtual absl::Status BeginDraw(const std::vector<ShardDraw>& draws, int64_t width,
                                 TokenId first) = 0;
  // Whether TakeDraw() would not wait.
  virtual bool DrawIsDone() = 0;
  // Waits for the oldest draw that was begun, and for what was called before it.
  virtual absl::StatusOr<std::vector<ShardResult>> TakeDraw() = 0;
  // Both at once.
  absl::StatusOr<std::vector<ShardResult>> Draw(const std::vector<ShardDraw>& draws, int64_t width,
                                                TokenId first) {
    if (absl::Status begun = BeginDraw(draws, width, first); !begun.ok()) return begun;
    return TakeDraw();
  }
  virtual absl::Status Synchronize() = 0;
};

}  // namespace conclave::worker
