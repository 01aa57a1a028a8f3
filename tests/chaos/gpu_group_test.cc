// A group on one host whose GPU is emulated.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <optional>
#include <string>
#include <vector>

#include "tests/chaos/asker.h"
#include "tests/chaos/disturbed.h"
#include "tests/chaos/emulated_gpu.h"
#include "tests/integration/cluster.h"

namespace conclave {
namespace {

using ::testing::ContainsRegex;
using ::testing::FloatNear;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pointwise;

class GpuGroupTest : public ::testing::Test {
 protected:
  void Start(const std::vector<std::string>& settings, int gpus = 1) {
    std::vector<std::string> all = kGpuSettings;
    all.insert(all.end(), settings.begin(), settings.end());
    cluster_.emplace(std::vector<std::string>{"env", kGpuDriver,
                                              fmt::format("FAKE_CUDA_DEVICES={}", gpus),
                                              "NCCL_DEBUG=INFO", kGpuWorker});
    cluster_->StartWorker(all);
    cluster_->StartRouter();
    cluster_->AwaitServed();
  }

  Seen Ask(const v1::GenerateRequest& question) {
    return Asker(cluster_->RouterAddress()).Ask(question);
  }

  std::optional<Cluster> cluster_;
};

TEST_F(GpuGroupTest, OneRankAndTwoAnswerAsTheCpuDoes) {
  Start({"group.device=cpu"});
  const Seen cpu = Ask(GpuQuestion());
  ASSERT_TRUE(cpu.status.ok()) << cpu.status.error_message();
  EXPECT_THAT(cluster_->worker().Output(), HasSubstr("backend=cpu/"));

  for (const int ranks : {1, 2}) {
    Start({fmt::format("group.tensor_parallel={}", ranks)});
    const Seen gpu = Ask(GpuQuestion());

    ASSERT_TRUE(gpu.status.ok()) << gpu.status.error_message();
    EXPECT_EQ(gpu.fault, "");
    EXPECT_EQ(gpu.completed.answer(), cpu.completed.answer()) << ranks << " ranks";
    EXPECT_THAT(cluster_->worker().Output(), HasSubstr("backend=cuda/sm_"));
  }
  EXPECT_THAT(cluster_->worker().Output(), HasSubstr("shared, which is slow gpus=1 ranks=2"));
}

TEST_F(GpuGroupTest, RanksWithAGpuEachSayWhatTheySayOnOne) {
  Start({"group.tensor_parallel=2"});
  const Seen shared = Ask(GpuQuestion());
  Start({"group.tensor_parallel=2"}, 2);

  ExpectSame(Ask(GpuQuestion()), shared);
  const std::string log = cluster_->worker().Output();
  EXPECT_THAT(log, Not(HasSubstr("shared, which is slow")));
  EXPECT_THAT(log, HasSubstr("small sums between peers"));
  EXPECT_THAT(log, HasSubstr("rank 0 of 2 at =lo, host "));
  EXPECT_THAT(log, ContainsRegex("rank 1 of 2 at =lo, host .*, device 1"));
}

// What is left is the order of sums.
TEST_F(GpuGroupTest, InF32OneRankAndTwoDrawTheTokensOfTheCpu) {
  v1::GenerateRequest question = GpuQuestion();
  question.set_mode(v1::MODE_THINKING);
  question.clear_contemplation();
  question.mutable_budget()->set_thinking_tokens(4);
  question.mutable_budget()->set_answer_tokens(4);
  const auto ask = [&](const std::string& device, int ranks) {
    Start({"group.compute=f32", "group.kv_tokens=128", "group.max_agents=1",
           "group.max_batched_tokens=16", "group.device=" + device,
           fmt::format("group.tensor_parallel={}", ranks)});
    return Ask(question);
  };

  const Seen cpu = ask("cpu", 1);

  ASSERT_TRUE(cpu.status.ok()) << cpu.status.error_message();
  for (const int ranks : {1, 2}) {
    const Seen gpu = ask("cuda", ranks);
    ASSERT_TRUE(gpu.status.ok()) << gpu.status.error_message();
    EXPECT_THAT(cluster_->worker().Output(), HasSubstr("/f32/kv-f32"));
    ASSERT_EQ(gpu.agents.size(), 1u);
    for (const auto& [id, agent] : gpu.agents) {
      const SeenAgent& its = cpu.agents.at(id);
      EXPECT_FALSE(agent.tokens.empty());
      EXPECT_EQ(agent.tokens, its.tokens) << ranks << " ranks, agent " << id;
      EXPECT_THAT(agent.logprobs, Pointwise(FloatNear(1e-4f), its.logprobs));
    }
  }
}

TEST_F(GpuGroupTest, ALostRankIsReplacedAndTheAnswerIsTheSame) {
  Start({"group.tensor_parallel=2"});
  const Seen undisturbed = Ask(GpuQuestion());

  for (const size_t rank : {1, 0}) {
    ExpectSameThrough(cluster_->RouterAddress(), GpuQuestion(), undisturbed,
                      [&] { kill(cluster_->Ranks().at(rank), SIGKILL); });
  }

  EXPECT_THAT(cluster_->worker().Output(), HasSubstr("small sums between peers"));
  EXPECT_THAT(cluster_->worker().Output(), HasSubstr("was killed by signal 9 (SIGKILL)"));
  cluster_->worker().Signal(SIGTERM);
  EXPECT_EQ(cluster_->worker().Wait(absl::Minutes(1)), 0) << cluster_->worker().Output();
}

}  // namespace
}  // namespace conclave
