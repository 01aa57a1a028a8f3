#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "worker/backend/device.h"

namespace conclave::worker {

// A matrix in memory, in the type that a checkpoint would have.
class MatrixSource : public RowSource {
 public:
  MatrixSource(std::vector<float> values, int64_t rows, int64_t cols, DType dtype)
      : values_(std::move(values)), rows_(rows), cols_(cols), dtype_(dtype) {}
  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  DType dtype() const override { return dtype_; }
  void Read(int64_t row, void* to) const override {
    for (int64_t k = 0; k < cols_; ++k) {
      const float value = values_[static_cast<size_t>(row * cols_ + k)];
      if (dtype_ == DType::kF32) {
        static_cast<float*>(to)[k] = value;
      } else {  // Cut, not rounded: values that fit are the same.
        static_cast<uint16_t*>(to)[k] = static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
      }
    }
  }

 private:
  const std::vector<float> values_;
  const int64_t rows_, cols_;
  const DType dtype_;
};

// A sequence of the toy: its tokens, of which the first `prompt` are its prompt, and its blocks.
struct ToySequence {
  std::vector<TokenId> tokens;
  int prompt = 0;
  std::vector<int32_t> blocks;
};

// Part of a step: rows [from, from + rows) of a sequence.
struct ToyPart {
  const ToySequence* sequence;
  int from, rows;
};

// Two layers of a decoder with random weights, made of a device's operations: what a model does
// with it, small enough to emulate.
class Toy {
 public:
  static constexpr int kHidden = 32, kHeads = 4, kKvHeads = 2, kWidth = 16, kMiddle = 48;
  static constexpr int kVocab = 40, kRows = 128, kBlocks = 64, kLayers = 2;

  // `window`: of the second layer.
  Toy(Device& device, DType weights, int window = 0) : device_(device), window_(window) {
    dtype_ = weights;
    table_ = Pack(kVocab, kHidden);
    for (auto& layer : layers_) {
      layer.qkv = Pack((kHeads + 2 * kKvHeads) * kWidth, kHidden);
      layer.o = Pack(kHidden, kHeads * kWidth);
      layer.gate_up = Pack(2 * kMiddle, kHidden);
      layer.down = Pack(kHidden, kMiddle);
    }
    type_ = device.ActivationType(weights);
    gain_ = *device.Upload(std::vector<float>(kHidden, 1.0f));
    std::vector<float> cos, sin;
    for (int i = 0; i < 512 * kWidth / 2; ++i) {
      const float angle = static_cast<float>(i / (kWidth / 2)) *
                          std::pow(0.5f, static_cast<float>(i % (kWidth / 2)));
      cos.push_back(std::cos(angle)), sin.push_back(std::sin(angle));
    }
    cos_ = *device.Upload(cos), sin_ = *device.Upload(sin);
    pool_ = *device.AllocateKv(kLayers, kBlocks, kKvHeads, kWidth);
    const auto rows = static_cast<size_t>(device.Padded(kRows));
    x_ = *device.Allocate(DType::kF32, rows * kHidden);
    y_ = *device.Allocate(type_, rows * kHidden);
    last_ = *device.Allocate(DType::kF32, rows * kHidden);
    qkv_ = *device.Allocate(type_, rows * (kHeads + 2 * kKvHeads) * kWidth);
    attended_ = *device.Allocate(type_, rows * kHeads * kWidth);
    middle_ = *device.Allocate(type_, rows * kMiddle);
    logits_ = *device.Allocate(DType::kF32, rows * kVocab);
  }

  // Runs the parts as one step; the logits of each part's last row.
  std::vector<std::vector<float>> Step(const std::vector<ToyPart>& parts) {
    const Batch batch = BatchOf(parts);
    size_ = device_.Begin(batch);
    const absl::Status ran = device_.Repeat([this] { return Layers(); });
    EXPECT_TRUE(ran.ok()) << ran;
    std::vector<std::vector<float>> all(parts.size(), std::vector<float>(kVocab));
    for (size_t i = 0; i < parts.size(); ++i) {
      const auto row =
          std::lower_bound(batch.logits_rows.begin(), batch.logits_rows.end(), last_rows_[i]) -
          batch.logits_rows.begin();
      const absl::Status status = device_.Download(
          Tensor::Dense(logits_->floats(), size_.logits_rows, kVocab).Rows(row, 1), all[i].data());
      EXPECT_TRUE(status.ok()) << status;
    }
    return all;
  }
  BatchSize size() const { return size_; }
  KvPool& pool() { return pool_; }

 private:
  struct Layer {
    std::unique_ptr<Weight> qkv, o, gate_up, down;
  };

  std::unique_ptr<Weight> Pack(int64_t rows, int64_t cols) {
    std::normal_distribution<float> normal(0, 1 / std::sqrt(static_cast<float>(cols)));
    std::vector<float> values(static_cast<size_t>(rows * cols));
    for (float& value : values) {  // bf16 numbers, whatever the type: all toys have the same.
      value = std::bit_cast<float>(std::bit_cast<uint32_t>(normal(generator_)) & 0xffff0000u);
    }
    const MatrixSource source(std::move(values), rows, cols, dtype_);
    return *device_.Pack({&source});
  }

  // Prompt rows first, where the device tells them apart.
  Batch BatchOf(const std::vector<ToyPart>& parts) {
    Batch batch;
    last_rows_.assign(parts.size(), 0);
    for (const bool prompts : {true, false}) {
      for (size_t i = 0; i < parts.size(); ++i) {
        const ToySequence& sequence = *parts[i].sequence;
        const int border = device_.kinds_differ() ? sequence.prompt : 0;
        const int from = prompts ? parts[i].from : std::max(parts[i].from, border);
        const int to = prompts ? std::min(parts[i].from + parts[i].rows, border)
                               : parts[i].from + parts[i].rows;
        if (from >= to) continue;
        batch.runs.push_back({static_cast<int32_t>(batch.tokens.size()), to - from, from,
                              sequence.blocks.data(),
                              static_cast<int32_t>(sequence.blocks.size())});
        batch.tokens.insert(batch.tokens.end(), sequence.tokens.begin() + from,
                            sequence.tokens.begin() + to);
        last_rows_[i] = static_cast<int32_t>(batch.tokens.size()) - 1;
      }
      if (prompts) batch.prompt_rows = static_cast<int>(batch.tokens.size());
    }
    batch.logits_rows = last_rows_;
    std::sort(batch.logits_rows.begin(), batch.logits_rows.end());
    return batch;
  }

  Tensor View(const std::unique_ptr<Buffer>& buffer, DType dtype, int64_t cols) const {
    return Tensor::Dense(buffer->data(), dtype, size_.rows, cols);
  }

  absl::Status Layers() {
    const Tensor x = View(x_, DType::kF32, kHidden), y = View(y_, type_, kHidden);
    device_.Embed(0, *table_, x);
    for (int i = 0; i < kLayers; ++i) {
      const Layer& layer = layers_[i];
      const Tensor qkv = View(qkv_, type_, (kHeads + 2 * kKvHeads) * kWidth);
      const Tensor attended = View(attended_, type_, kHeads * kWidth);
      const Tensor middle = View(middle_, type_, kMiddle);
      device_.RmsNorm(x, 1, gain_->floats(), 1e-5f, y);
      device_.Linear(y, size_.prompt_rows, *layer.qkv, /*add=*/false, qkv);
      const Tensor q = qkv.Columns(0, kHeads * kWidth);
      device_.RopeStore(q, qkv.Columns(kHeads * kWidth, kKvHeads * kWidth),
                        qkv.Columns((kHeads + kKvHeads) * kWidth, kKvHeads * kWidth),
                        {cos_->floats(), sin_->floats()}, pool_, i);
      device_.Attend(q, pool_, i, 0.25f, i == 1 ? window_ : 0, attended);
      device_.Linear(attended, size_.prompt_rows, *layer.o, /*add=*/true, x);
      device_.RmsNorm(x, 1, gain_->floats(), 1e-5f, y);
      device_.GateUp(y, size_.prompt_rows, *layer.gate_up, nullptr, middle);
      device_.Linear(middle, size_.prompt_rows, *layer.down, /*add=*/true, x);
    }
    const Tensor last = View(last_, DType::kF32, kHidden).Rows(0, size_.logits_rows);
    const Tensor normed = y.Rows(0, size_.logits_rows);
    device_.SelectLogitsRows(x, last);
    device_.RmsNorm(last, 1, gain_->floats(), 1e-5f, normed);
    device_.Linear(normed, /*prompt_rows=*/0, *table_, /*add=*/false,
                   Tensor::Dense(logits_->floats(), size_.logits_rows, kVocab));
    return absl::OkStatus();
  }

  Device& device_;
  const int window_;
  DType dtype_ = DType::kF32, type_ = DType::kF32;
  std::mt19937 generator_{7};
  std::unique_ptr<Weight> table_;
  Layer layers_[kLayers];
  std::unique_ptr<Buffer> gain_, cos_, sin_, x_, y_, last_, qkv_, attended_, middle_, logits_;
  KvPool pool_;
  BatchSize size_;
  std::vector<int32_t> last_rows_;
};

}  // namespace conclave::worker
