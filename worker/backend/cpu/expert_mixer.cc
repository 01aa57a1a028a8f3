#include "worker/backend/cpu/expert_mixer.h"

#include <algorithm>

#include "common/check.h"

namespace conclave::worker {
namespace {

// Rows of scratch, made larger where they don't fit.
Tensor Scratch(std::vector<float>& memory, size_t rows, int64_t cols) {
  const size_t size = rows * static_cast<size_t>(cols);
  if (memory.size() < size) memory.resize(size);
  return Tensor::Dense(memory.data(), static_cast<int64_t>(rows), cols);
}

}  // namespace

void ExpertMixer::Mix(Device& device, const Kernels& kernels, Tensor x, Tensor scores,
                      const std::vector<ExpertWeights>& experts, const ExpertChoice& choice,
                      Tensor out) {
  CHECK(scores.cols == static_cast<int64_t>(experts.size()) && choice.chosen <= scores.cols);
  shares_.resize(experts.size());
  for (auto& rows : shares_) rows.clear();
  for (int64_t n = 0; n < x.rows; ++n) {
    kernels.softmax(scores.row(n), scores.cols);
    Choose(scores.row(n), n, choice);
    std::fill_n(out.row(n), out.cols, 0.0f);
  }
  for (size_t e = 0; e < experts.size(); ++e) {
    if (!shares_[e].empty()) AddExpert(device, x, experts[e], shares_[e], out);
  }
}

void ExpertMixer::Choose(const float* probabilities, int64_t row, const ExpertChoice& choice) {
  taken_.assign(shares_.size(), false);
  for (int i = 0; i < choice.chosen; ++i) {
    size_t best = shares_.size();
    for (size_t e = 0; e < shares_.size(); ++e) {
      if (taken_[e]) continue;
      if (best == shares_.size() || probabilities[e] > probabilities[best]) best = e;
    }
    taken_[best] = true;
  }
  float sum = choice.renormalise ? 0.0f : 1.0f;
  for (size_t e = 0; choice.renormalise && e < shares_.size(); ++e) {
    if (taken_[e]) sum += probabilities[e];
  }
  for (size_t e = 0; e < shares_.size(); ++e) {
    if (taken_[e]) shares_[e].push_back({row, probabilities[e] / sum});
  }
}

void ExpertMixer::AddExpert(Device& device, Tensor x, const ExpertWeights& expert,
                            const std::vector<Share>& shares, Tensor out) {
  const Tensor rows = Scratch(x_, shares.size(), x.cols);
  const Tensor middle = Scratch(middle_, shares.size(), expert.gate_up->out() / 2);
  const Tensor down = Scratch(down_, shares.size(), out.cols);
  for (int64_t i = 0; i < rows.rows; ++i) {
    std::copy_n(x.row(shares[static_cast<size_t>(i)].row), x.cols, rows.row(i));
  }
  device.GateUp(rows, 0, *expert.gate_up, nullptr, middle);
  device.Linear(middle, 0, *expert.down, /*add=*/false, down);
  for (int64_t i = 0; i < down.rows; ++i) {
    const auto& [row, weight] = shares[static_cast<size_t>(i)];
    for (int64_t c = 0; c < out.cols; ++c) out.row(row)[c] += weight * down.row(i)[c];
  }
}

}  // namespace conclave::worker
