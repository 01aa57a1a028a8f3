#include <fmt/format.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstdint>

#include "worker/backend/cpu/cpu_device.h"
#include "worker/runner/local_runner.h"

namespace conclave::worker {
namespace {

// The bits of every logit and every draw of 40 steps of small models, on any instruction set, by
// number of ranks. They changed? Then arithmetic changed: raise kNumericsVersion, so that no group
// of the old arithmetic goes on with an agent of the new, and put the new bits here.
struct GoldenBits {
  const char* model;
  int version, tp;
  uint64_t hash;
};
constexpr GoldenBits kGolden[] = {
    {"dense_llama", 1, 1, 0xf651dff8a16c6c4c},     {"dense_llama", 1, 2, 0x870c782c1450960},
    {"dense_llama", 1, 4, 0xe6e0c4248a7b894c},     {"dense_llama_bf16", 1, 2, 0xe0b983ebe2539295},
    {"dense_mistral", 1, 2, 0xde7fcefee0d446db},   {"dense_qwen2", 1, 2, 0x68a856a202a02b97},
    {"dense_qwen3", 1, 2, 0x3239119eaa112a7},      {"dense_qwen3_moe", 1, 2, 0xd20d395034735b15},
    {"dense_qwen3_yarn", 1, 2, 0x692f8429e6b910b},
};

uint64_t Mix(uint64_t hash, uint32_t word) { return (hash ^ word) * 0x100000001b3u; }

uint64_t BitsOf(const std::string& model, int tp, const std::string& set) {
  LocalRunnerOptions options;
  options.model_dir = CONCLAVE_SOURCE_DIR "/tests/golden/data/" + model;
  options.tp = tp;
  options.instruction_set = set;
  options.kv_tokens = 16 * kBlockTokens;
  options.max_slots = 4;
  options.max_rows = 16;
  const auto runner = LocalRunner::Create(options);
  EXPECT_TRUE(runner.ok()) << runner.status();
  uint64_t hash = 0xcbf29ce484222325u;
  for (uint64_t step = 1; step <= 40; ++step) {
    StepPlan plan;
    plan.number = step;
    if (step == 1) {
      SlotChange open;
      open.seed = 7;
      open.blocks = {{3, 1, 5, 0, 2}};
      plan.slots = {open};
      for (int i = 0; i < 9; ++i) plan.rows.push_back({0, i, 11 * i + 3});
    } else {
      plan.rows = {{0, static_cast<int32_t>(step) + 7, kPreviousSample}};
    }
    plan.samples = {
        {static_cast<int32_t>(plan.rows.size()) - 1, 0, static_cast<int32_t>(step) - 1}};
    EXPECT_TRUE((*runner)->Submit(std::move(plan)).ok());
    const auto result = (*runner)->Await();
    EXPECT_TRUE(result.ok()) << result.status();
    if (!result.ok()) return 0;
    for (int r = 0; r < tp; ++r) {
      const auto logits = *(*runner)->rank(r).LastLogits();
      for (const float logit : logits[0]) hash = Mix(hash, std::bit_cast<uint32_t>(logit));
    }
    const TokenEvent& token = result->tokens[0];
    hash = Mix(hash, static_cast<uint32_t>(token.id));
    hash = Mix(hash, std::bit_cast<uint32_t>(token.logprob));
    hash = Mix(hash, std::bit_cast<uint32_t>(token.top_logprob_mean));
  }
  return hash;
}

TEST(GoldenBitsTest, ArithmeticIsWhatItsVersionSays) {
  for (const GoldenBits& golden : kGolden) {
    ASSERT_EQ(golden.version, kNumericsVersion);
    for (const char* set : {"plain", "avx2", "avx512"}) {
      if (!MakeCpuDevice(set).ok()) continue;
      EXPECT_EQ(fmt::format("{:#x}", BitsOf(golden.model, golden.tp, set)),
                fmt::format("{:#x}", golden.hash))
          << golden.model << ", " << golden.tp << " ranks, " << set;
    }
  }
}

}  // namespace
}  // namespace conclave::worker
