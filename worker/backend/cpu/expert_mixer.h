#pragma once

#include <cstdint>
#include <vector>

#include "worker/backend/cpu/kernels.h"
#include "worker/backend/device.h"

namespace conclave::worker {

// Device::MixExperts on the CPU: rows are gathered by expert, so that each expert's weights are
// read once a step. Owns its scratch, which grows to the greatest step. One thread.
class ExpertMixer {
 public:
  // The experts' products run on `device`.
  void Mix(Device& device, const Kernels& kernels, Tensor x, Tensor scores,
           const std::vector<ExpertWeights>& experts, const ExpertChoice& choice, Tensor out);

 private:
  struct Share {
    int64_t row = 0;
    float weight = 0;
  };
  void Choose(const float* probabilities, int64_t row, const ExpertChoice& choice);
  void AddExpert(Device& device, Tensor x, const ExpertWeights& expert,
                 const std::vector<Share>& shares, Tensor out);

  std::vector<std::vector<Share>> shares_;  // By expert: the rows that chose it.
  std::vector<bool> taken_;
  std::vector<float> x_, middle_, down_;
};

}  // namespace conclave::worker
