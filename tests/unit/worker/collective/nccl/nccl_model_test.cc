// A small model on ranks that share a GPU, or have one each, through the runner of every rank.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "common/status.h"
#include "tests/source_folder.h"
#include "tests/unit/worker/collective/nccl/rank_processes.h"
#include "worker/backend/cuda/cuda_device.h"
#include "worker/runner/model_runner.h"

namespace conclave::worker {
namespace {

using ::testing::Each;
using ::testing::IsEmpty;
using Compute = CudaOptions::Compute;

constexpr int kSaid = 8;  // A graph is recorded at the second step of its size.

struct Speech {
  std::string model;
  Compute compute = Compute::kF32;
  bool graphs = true;
};

// The model's greedy continuation of a prompt: the prompt in two steps, then token by token.
absl::StatusOr<std::vector<TokenId>> Continue(ModelRunner& runner) {
  std::vector<TokenId> prompt;
  for (int i = 0; i < 21; ++i) prompt.push_back((i * 37 + 5) % runner.shape().vocab_size);
  const int length = static_cast<int>(prompt.size());
  std::vector<TokenId> said;
  for (uint64_t number = 1; static_cast<int>(said.size()) < kSaid; ++number) {
    StepPlan plan;
    plan.number = number;
    if (number == 1) {
      SlotChange open;
      open.sampling.temperature = 0;
      open.position = length;
      open.blocks = {{0, 1, 2, 3}};
      plan.slots = {open};
    }
    if (number <= 2) {
      const int from = number == 1 ? 0 : 10, to = number == 1 ? 10 : length;
      for (int i = from; i < to; ++i) plan.rows.push_back({0, i, prompt[static_cast<size_t>(i)]});
    } else {
      const int produced = static_cast<int>(said.size());
      plan.rows = {{0, length + produced - 1, kPreviousSample}};
    }
    if (number >= 2) {
      plan.samples = {
          {static_cast<int32_t>(plan.rows.size()) - 1, 0, static_cast<int32_t>(said.size())}};
    }
    ASSIGN_OR_RETURN(const StepResult result, runner.Run(plan));
    for (const TokenEvent& token : result.tokens) said.push_back(token.id);
  }
  return said;
}

// One rank's life.
absl::Status Speak(const Speech& speech, int r, int size, Meeting& meeting) {
  CudaOptions options;
  options.compute = speech.compute;
  options.graphs = speech.graphs;
  options.ordinal = DeviceOfRank(r);
  ASSIGN_OR_RETURN(const auto device, cuda::MakeCudaDevice(options));
  JoinedRank rank;
  SoloCollective alone;
  if (size > 1) {
    ASSIGN_OR_RETURN(rank, JoinedRank::Join(r, size, meeting, {.stream = device->stream()}));
  }
  Collective& collective = size > 1 ? *rank.collective : static_cast<Collective&>(alone);
  RunnerOptions runner_options;
  runner_options.model_dir = speech.model;
  runner_options.kv_tokens = 8 * kBlockTokens;
  runner_options.max_slots = 4;
  runner_options.max_rows = 32;
  ASSIGN_OR_RETURN(const auto runner, ModelRunner::Create(runner_options, *device, collective));
  ASSIGN_OR_RETURN(const std::vector<TokenId> said, Continue(*runner));
  std::copy(said.begin(), said.end(), meeting.said[r]);
  return absl::OkStatus();
}

class NcclModelTest : public testing::Test {
 protected:
  void SetUp() override {
    static const std::string why = WhyNoRanks();
    if (!why.empty()) GTEST_SKIP() << why;
  }
  // What `size` ranks say; all the same.
  static std::vector<TokenId> Say(const Speech& speech, int size) {
    RankProcesses ranks(size,
                        [&](int r, Meeting& meeting) { return Speak(speech, r, size, meeting); });
    EXPECT_THAT(ranks.Complaints(absl::Minutes(1)), Each(IsEmpty())) << size << " ranks";
    const auto said = [&](int r) {
      const int32_t* tokens = ranks.meeting().said[r];
      return std::vector<TokenId>(tokens, tokens + kSaid);
    };
    for (int r = 1; r < size; ++r) EXPECT_EQ(said(r), said(0)) << "rank " << r;
    return said(0);
  }
};

TEST_F(NcclModelTest, RanksTogetherSayWhatOneSays) {
  const Speech speech{.model = SourceFolder() + "/tests/golden/data/dense_llama"};

  EXPECT_EQ(Say(speech, 2), Say(speech, 1));
}

TEST_F(NcclModelTest, GraphsOnRanksSayTheSame) {
  Speech speech{.model = SourceFolder() + "/models/conclave-demo", .compute = Compute::kBF16};
  const std::vector<TokenId> recorded = Say(speech, 2);
  speech.graphs = false;

  EXPECT_EQ(Say(speech, 2), recorded);
}

}  // namespace
}  // namespace conclave::worker
