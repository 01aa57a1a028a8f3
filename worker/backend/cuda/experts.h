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
// [N, experts] f32. For few rows and many: each (row, chosen expert) is one product of its own, in
// LinearRows' order. scratch: ExpertScratchBytes(...).
struct MixExpertsArgs {
  Tensor x, scores, out;
  const ExpertMatrices* experts = nullptr;  // Device memory, [experts].
  int num_experts = 0;
  int64_t ffn = 0;
  ExpertChoice choice;
  void* scratch = nullptr;
};
int64_t ExpertScratchBytes(int64_t rows, int chosen, int64_t ffn);
void MixExperts(const MixExpertsArgs& args, cudaStream_t stream);

}  // namespace conclave::worker::cuda
