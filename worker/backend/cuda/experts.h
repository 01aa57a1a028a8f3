#pragma once

#include <cstdint>

#include "worker/backend/cuda/matrix.h"
#include "worker/backend/cuda/platform.h"
#include "worker/backend/device.h"
#include "worker/backend/tensor.h"

namespace conclave::worker::cuda {

// A mixture of experts on the device. Each expert's matrices: gate_up [2F, D] as [G; U], down [D,
// F].
struct ExpertMatrices {
  Matrix gate_up, down;
};

// out[n] (f32) = sum over x[n]'s chosen experts e, rising, of weight_e * expert_e(x[n]); scores
// [N, experts] f32. Any number of rows: pairs (row, chosen expert) are gathered by expert on the
// device, so that a weight is read once for up to 32 of them; a pair's bits depend on its row and
// the weights' shapes alone. x bf16 with bf16, e4m3 or int4 weights, D and F multiples of
// 8 and rows as Matrix has them (WeightPacker refuses others while it loads); f32 with f32 or bf16
// ones.
struct MixExpertsArgs {
  Tensor x, scores, out;
  const ExpertMatrices* experts = nullptr;  // Device memory, [experts].
  Stored stored = Stored::kBF16;            // All experts' matrices are of one kind.
  int num_experts = 0;
  int64_t ffn = 0;
  ExpertChoice choice;
  void* scratch = nullptr;  // ExpertScratchBytes(args) bytes, aligned to 256.
};
// Of x, out, num_experts, ffn and choice alone; grows with the rows, up to 1024 of them.
int64_t ExpertScratchBytes(const MixExpertsArgs& args);
void MixExperts(const MixExpertsArgs& args, cudaStream_t stream);

}  // namespace conclave::worker::cuda
