#include "worker/backend/cuda/cuda_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "common/status.h"
#include "tests/unit/worker/backend/cuda/toy_model.h"
#include "worker/backend/cpu/cpu_device.h"

namespace conclave::worker::cuda {
namespace {

using ::testing::HasSubstr;
using Logits = std::vector<std::vector<float>>;

class CudaDeviceFormatsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int devices = 0;
    const cudaError_t error = cudaGetDeviceCount(&devices);
    if (error == cudaSuccess && devices > 0) return;
    (void)cudaGetLastError();
    GTEST_SKIP() << "no CUDA device: " << cudaGetErrorString(error);
  }

  static std::unique_ptr<CudaDevice> Make(CudaOptions options = {}) {
    auto device = MakeCudaDevice(options);
    EXPECT_TRUE(device.ok()) << device.status();
    return *std::move(device);
  }
};

// With weights of this type.
class CudaDeviceTest : public CudaDeviceFormatsTest, public ::testing::WithParamInterface<DType> {};

// `tokens` of a sequence in blocks of its own, from `first_block` on.
ToySequence Sequence(int tokens, int prompt, int first_block) {
  ToySequence sequence;
  for (int i = 0; i < tokens; ++i)
    sequence.tokens.push_back((i * 7 + first_block * 3) % Toy::kVocab);
  sequence.prompt = prompt;
  for (int i = 0; i * 16 < tokens; ++i) sequence.blocks.push_back(first_block + i);
  return sequence;
}

// The whole sequence: its prompt in chunks, then token by token. The logits of every step's last
// row.
Logits RunAlone(Toy& toy, const ToySequence& sequence, int chunk) {
  Logits logits;
  const int size = static_cast<int>(sequence.tokens.size());
  for (int from = 0; from < size;) {
    const int rows = from < sequence.prompt ? std::min(chunk, sequence.prompt - from) : 1;
    const Logits step = toy.Step({{&sequence, from, rows}});
    from += rows;
    if (from >= sequence.prompt) logits.push_back(step[0]);
  }
  return logits;
}

float MostApart(const Logits& a, const Logits& b) {
  EXPECT_EQ(a.size(), b.size());
  float most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    for (size_t j = 0; j < a[i].size(); ++j) {
      const float apart = std::abs(a[i][j] - b[i][j]);
      most = apart <= most ? most : apart;  // NaN stays.
    }
  }
  return most;
}

TEST_P(CudaDeviceTest, StepsAreWhatTheCpuComputes) {
  for (const int window : {0, 9}) {
    const auto gpu = Make();
    const auto cpu = *MakeCpuDevice("auto");
    Toy mine(*gpu, GetParam(), window), expected(*cpu, GetParam(), window);
    const ToySequence sequence = Sequence(28, 24, 3);

    const Logits found = RunAlone(mine, sequence, 20), wanted = RunAlone(expected, sequence, 20);

    // Logits are about 1; bf16 has 8 bits.
    EXPECT_LT(MostApart(found, wanted), GetParam() == DType::kF32 ? 2e-5f : 6e-2f);
  }
}

TEST_P(CudaDeviceTest, ARowHasTheSameBitsAloneAndAmongOthers) {
  const auto gpu = Make();
  Toy alone(*gpu, GetParam());
  const ToySequence a = Sequence(24, 21, 1), b = Sequence(10, 7, 8), c = Sequence(20, 17, 20);
  const Logits from_a = RunAlone(alone, a, 64), from_b = RunAlone(alone, b, 64);
  const Logits from_c = RunAlone(alone, c, 64);

  const auto other = Make();
  Toy together(*other, GetParam());
  Logits found = together.Step({{&a, 0, 21}, {&b, 0, 7}, {&c, 0, 17}});
  EXPECT_EQ(found, (Logits{from_a[0], from_b[0], from_c[0]}));
  for (int i = 0; i < 3; ++i) {
    found = together.Step({{&a, 21 + i, 1}, {&b, 7 + i, 1}, {&c, 17 + i, 1}});
    EXPECT_EQ(found, (Logits{from_a[1 + i], from_b[1 + i], from_c[1 + i]})) << "token " << i;
  }
}

TEST_P(CudaDeviceTest, PromptsAndProducedRowsShareAStep) {
  const auto gpu = Make();
  Toy alone(*gpu, GetParam());
  const ToySequence a = Sequence(24, 21, 1), b = Sequence(24, 23, 8);
  const Logits from_a = RunAlone(alone, a, 64), from_b = RunAlone(alone, b, 64);

  const auto other = Make();
  Toy together(*other, GetParam());
  EXPECT_EQ(together.Step({{&a, 0, 21}})[0], from_a[0]);
  EXPECT_EQ(together.Step({{&a, 21, 1}, {&b, 0, 18}})[0], from_a[1]);
  EXPECT_EQ(together.Step({{&b, 18, 5}, {&a, 22, 1}}), (Logits{from_b[0], from_a[2]}));
}

TEST_P(CudaDeviceTest, ChunksOfAPromptDoNotShow) {
  const auto gpu = Make();
  Toy toy(*gpu, GetParam());
  const ToySequence sequence = Sequence(25, 22, 2);

  const Logits whole = RunAlone(toy, sequence, 64);

  EXPECT_EQ(RunAlone(toy, sequence, 7), whole);
}

TEST_P(CudaDeviceTest, ReplayedStepsHaveTheBitsOfOthers) {
  const ToySequence sequence = Sequence(22, 4, 2);
  const auto plain = Make({.graphs = false});
  Toy expected(*plain, GetParam(), 5);
  const Logits wanted = RunAlone(expected, sequence, 64);
  EXPECT_EQ(plain->replays(), 0);

  const auto gpu = Make();
  Toy toy(*gpu, GetParam(), 5);

  EXPECT_EQ(RunAlone(toy, sequence, 64), wanted);
  EXPECT_GT(gpu->replays(), 10);
}

TEST_P(CudaDeviceTest, StepsWithoutPromptsArePaddedToFewSizes) {
  const auto gpu = Make();
  Toy toy(*gpu, GetParam());
  std::vector<ToySequence> sequences;
  for (int i = 0; i < 9; ++i) sequences.push_back(Sequence(1, 0, i));
  std::vector<ToyPart> parts;
  for (const int64_t padded : {1, 2, 4, 4, 8, 8, 8, 8, 12}) {
    parts.push_back({&sequences[parts.size()], 0, 1});
    toy.Step(parts);
    EXPECT_EQ(toy.size().rows, padded);
    EXPECT_EQ(toy.size().logits_rows, padded);
    EXPECT_EQ(gpu->Padded(static_cast<int64_t>(parts.size())), padded);
  }
  EXPECT_EQ(gpu->Padded(65), 96);
}

TEST_P(CudaDeviceTest, ACopiedBlockGoesOnAsItsSource) {
  const auto gpu = Make();
  Toy toy(*gpu, GetParam());
  const ToySequence source = Sequence(22, 20, 1);
  const Logits wanted = RunAlone(toy, source, 64);
  ToySequence copy = source;
  copy.blocks = {1, 9};  // The second block begins as the source's, and goes on alone.
  gpu->CopyBlock(toy.pool(), 2, 9, 4);

  EXPECT_EQ(toy.Step({{&copy, 20, 1}})[0], wanted[1]);
  EXPECT_EQ(toy.Step({{&copy, 21, 1}})[0], wanted[2]);
}

TEST_P(CudaDeviceTest, DrawsAreTheCpus) {
  const auto gpu = Make();
  const auto cpu = *MakeCpuDevice("auto");
  constexpr int kWidth = 700;
  std::mt19937 generator(3);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits(3 * kWidth);
  for (float& each : logits) each = normal(generator);
  const auto draw = [&](Device& device) {
    const auto memory = *device.Upload(logits);
    std::vector<ShardDraw> draws(3);
    for (int i = 0; i < 3; ++i) {
      draws[i].logits = memory->floats() + i * kWidth;
      draws[i].seed = 11, draws[i].agent = static_cast<uint32_t>(i), draws[i].index = 5;
    }
    draws[1].temperature = 0;
    draws[1].adjust = {{.id = 90, .add = 1000}, {.id = 101, .add = 50}, {.id = 5000, .add = 1000}};
    draws[2].keep = 9;
    auto results = device.Draw(draws, kWidth, /*first=*/100);
    EXPECT_TRUE(results.ok()) << results.status();
    return *std::move(results);
  };

  const auto found = draw(*gpu), wanted = draw(*cpu);

  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[1].best.id, 101);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(found[i].max, wanted[i].max);
    EXPECT_NEAR(found[i].sum, wanted[i].sum, 1e-4f * wanted[i].sum);
    EXPECT_EQ(found[i].top_raw, wanted[i].top_raw);
    EXPECT_EQ(found[i].top_ids, wanted[i].top_ids);
    EXPECT_EQ(found[i].best.id, wanted[i].best.id);
    ASSERT_EQ(found[i].kept.size(), wanted[i].kept.size());
    for (size_t j = 0; j < found[i].kept.size(); ++j) {
      EXPECT_EQ(found[i].kept[j].id, wanted[i].kept[j].id);
    }
  }
  EXPECT_EQ((*gpu->Draw({ShardDraw{}}, 0, 0))[0].best.id, -1);
}

TEST_P(CudaDeviceTest, ADrawThatNobodyHasTakenFeedsTheNextStep) {
  const auto gpu = Make();
  EXPECT_TRUE(gpu->feeds_draws());
  std::vector<float> logits(2 * Toy::kVocab, 0.0f);
  logits[7] = 5, logits[Toy::kVocab + 31] = 5;
  const auto memory = *gpu->Upload(logits);
  std::vector<ShardDraw> draws(2);
  for (int i = 0; i < 2; ++i) {
    draws[i].logits = memory->floats() + i * Toy::kVocab, draws[i].temperature = 0;
  }
  Toy toy(*gpu, GetParam());
  ToySequence a = Sequence(3, 2, 1), b = Sequence(3, 2, 2);
  toy.Step({{&a, 0, 2}, {&b, 0, 2}});
  a.tokens[2] = 31, b.tokens[2] = 7;
  const Logits wanted = toy.Step({{&a, 2, 1}, {&b, 2, 1}});

  a.tokens[2] = -2, b.tokens[2] = -1;
  for (int i = 0; i < 3; ++i) {  // As it is, recorded, replayed.
    ASSERT_TRUE(gpu->BeginDraw(draws, Toy::kVocab, 0).ok());
    EXPECT_EQ(toy.Step({{&a, 2, 1}, {&b, 2, 1}}), wanted);
    EXPECT_EQ((*gpu->TakeDraw())[1].best.id, 31);
  }
}

TEST_P(CudaDeviceTest, TwoDrawsAreTakenInTheirOrder) {
  const auto gpu = Make();
  std::vector<float> logits(3 * Toy::kVocab, 0.0f);
  for (int i = 0; i < 3; ++i) logits[i * Toy::kVocab + 10 + i] = 5;
  const auto memory = *gpu->Upload(logits);
  const auto begin = [&](int first, size_t count) {
    std::vector<ShardDraw> draws(count);
    for (size_t i = 0; i < count; ++i) {
      draws[i].logits = memory->floats() + (first + static_cast<int>(i)) * Toy::kVocab;
      draws[i].temperature = 0;
    }
    EXPECT_TRUE(gpu->BeginDraw(draws, Toy::kVocab, 0).ok());
  };
  const auto take = [&] {
    const auto results = gpu->TakeDraw();
    EXPECT_TRUE(results.ok()) << results.status();
    std::vector<TokenId> ids;
    for (const ShardResult& each : *results) ids.push_back(each.best.id);
    return ids;
  };
  begin(1, 1);
  for (int i = 0; i < 3; ++i) {
    begin(0, 3);
    EXPECT_EQ(take(), (std::vector<TokenId>{11}));
    begin(1, 1);
    EXPECT_EQ(take(), (std::vector<TokenId>{10, 11, 12}));
  }
  begin(0, 0);  // Waits alone.
  EXPECT_EQ(take(), (std::vector<TokenId>{11}));
  EXPECT_TRUE(gpu->DrawIsDone());
  EXPECT_EQ(take(), (std::vector<TokenId>{}));
}

INSTANTIATE_TEST_SUITE_P(Weights, CudaDeviceTest, ::testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& weights) {
                           return weights.param == DType::kF32 ? "f32" : "bf16";
                         });

TEST_F(CudaDeviceFormatsTest, NumbersAreKeptAsTheArithmeticNeedsThem) {
  const auto gpu = Make();
  EXPECT_EQ(gpu->ActivationType(DType::kF32), DType::kF32);
  EXPECT_EQ(gpu->ActivationType(DType::kF16), DType::kBF16);
  const MatrixSource f32({1, 2, 3}, 1, 3, DType::kF32);
  ASSERT_TRUE(gpu->Pack({&f32}).ok());
  EXPECT_FALSE(gpu->kinds_differ());
  EXPECT_THAT(gpu->name(), HasSubstr("/f32/kv-f32"));

  const auto bf16 = Make({.compute = CudaOptions::Compute::kBF16});
  EXPECT_EQ(bf16->ActivationType(DType::kF32), DType::kBF16);
  EXPECT_TRUE(bf16->kinds_differ());
  EXPECT_THAT(bf16->name(), HasSubstr("/bf16/kv-bf16"));
  EXPECT_EQ(bf16->Pack({&f32}).status().code(), absl::StatusCode::kUnimplemented);
}

TEST_F(CudaDeviceFormatsTest, WhatDoesNotGoTogetherIsRefused) {
  EXPECT_EQ(
      MakeCudaDevice({.compute = CudaOptions::Compute::kF32, .weights = CudaOptions::Weights::kFp8})
          .status()
          .code(),
      absl::StatusCode::kInvalidArgument);
  const auto f32 = Make({.compute = CudaOptions::Compute::kF32, .kv = CudaOptions::Kv::kFp8});
  EXPECT_EQ(f32->AllocateKv(1, 4, 1, 16).status().code(), absl::StatusCode::kInvalidArgument);
  const auto bf16 = Make({.compute = CudaOptions::Compute::kBF16});
  EXPECT_EQ(bf16->AllocateKv(1, 4, 1, 24).status().code(), absl::StatusCode::kUnimplemented);
}

TEST_F(CudaDeviceFormatsTest, AWidthThatAFormatCannotHoldIsRefusedWhileLoading) {
  struct LayerSource : MatrixSource {
    explicit LayerSource(int64_t cols)
        : MatrixSource(std::vector<float>(static_cast<size_t>(2 * cols), 1), 2, cols,
                       DType::kBF16) {}
    bool may_be_quantised() const override { return true; }
  };
  const auto code = [](CudaOptions::Weights weights, int64_t cols) {
    const LayerSource source(cols);
    return Make({.weights = weights})->Pack({&source}).status().code();
  };
  EXPECT_EQ(code(CudaOptions::Weights::kFp8, 24), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(code(CudaOptions::Weights::kFp8, 48), absl::StatusCode::kOk);
  EXPECT_EQ(code(CudaOptions::Weights::kInt4, 192), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(code(CudaOptions::Weights::kInt4, 256), absl::StatusCode::kOk);
}

TEST_F(CudaDeviceFormatsTest, MemoryThatIsNotThereIsNamedWithItsSize) {
  const auto gpu = Make();
  const auto huge = gpu->Allocate(DType::kF32, size_t{1} << 50);
  ASSERT_EQ(huge.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(MessageOf(huge.status())), HasSubstr("4294967296.0 MiB"));
  EXPECT_TRUE(gpu->Synchronize().ok());  // It was told once.
}

TEST_F(CudaDeviceFormatsTest, SourcesAreStackedAndConverted) {
  const auto gpu = Make({.compute = CudaOptions::Compute::kF32});
  const MatrixSource upper({1, 2, 3, 4, 5, 6}, 2, 3, DType::kBF16);
  const MatrixSource lower({7, 8, 9}, 1, 3, DType::kBF16);
  const auto weight = gpu->Pack({&upper, &lower});
  ASSERT_TRUE(weight.ok()) << weight.status();
  EXPECT_EQ((*weight)->out(), 3);
  EXPECT_EQ((*weight)->in(), 3);
  const auto x = *gpu->Upload(std::vector<float>{1, 10, 100});
  const auto out = *gpu->Allocate(DType::kF32, 3);

  gpu->Linear(Tensor::Dense(x->floats(), 1, 3), 1, **weight, false,
              Tensor::Dense(out->floats(), 1, 3));

  std::vector<float> found(3);
  ASSERT_TRUE(gpu->Download(Tensor::Dense(out->floats(), 1, 3), found.data()).ok());
  EXPECT_EQ(found, (std::vector<float>{321, 654, 987}));
}

}  // namespace
}  // namespace conclave::worker::cuda
