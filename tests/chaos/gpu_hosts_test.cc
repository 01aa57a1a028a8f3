// A group whose ranks are on the emulated GPUs of two hosts.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <vector>

#include "tests/chaos/emulated_gpu.h"
#include "tests/chaos/host_group.h"

namespace conclave {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class GpuHostsTest : public HostGroupTest {
 protected:
  GpuHostsTest() {
    worker_ = kGpuWorker;
    variables_ = {kGpuDriver, "NCCL_DEBUG=INFO"};
    settings_ = kGpuSettings;
    question_ = GpuQuestion();
  }
};

TEST_F(GpuHostsTest, TwoRanksOnTwoHostsSayWhatTwoOnOneHostSay) {
  const Seen one = AskOneHost();
  StartGroup();

  const Seen two = Ask();

  ExpectSame(two, one);
  for (const int host : {0, 1}) {
    EXPECT_THAT(host_[host]->Output(), HasSubstr("backend=cuda/sm_"));
    EXPECT_THAT(host_[host]->Output(), Not(HasSubstr("shared, which is slow")));
    EXPECT_THAT(host_[host]->Output(), HasSubstr(" of 2 at =wire, host net:"));
    EXPECT_THAT(host_[host]->Output(),
                HasSubstr("not between peers: rank 0: ranks are on several"));
  }
  for (const int host : {1, 0}) host_[host]->Signal(SIGTERM);
  EXPECT_EQ(host_[0]->Wait(kPatience), 0) << host_[0]->Output();
  EXPECT_EQ(host_[1]->Wait(kPatience), 0) << host_[1]->Output();
}

// The other rank waits on its device for ever: its launcher ends it.
TEST_F(GpuHostsTest, ARankThatIsKilledOnEitherHostIsReplaced) {
  StartGroup();
  const Seen undisturbed = Ask();
  ASSERT_TRUE(undisturbed.status.ok()) << host_[0]->Output() << host_[1]->Output();

  for (const int host : {1, 0}) {
    const pid_t other = RanksOf(1 - host).at(0);
    ExpectTheSameThrough(undisturbed, [&] { kill(RanksOf(host).at(0), SIGKILL); });
    EXPECT_FALSE(IsAlive(other));
    EXPECT_TRUE(HostSays(0, fmt::format("rank {} (pid", host)));
  }
  EXPECT_THAT(host_[0]->Output(), HasSubstr("epoch 3 is ready"));
}

TEST_F(GpuHostsTest, FourRanksOnTwoHostsShareEachHostsOwnGpu) {
  tp_ = 4;
  by_ = By::kLeaderWorkerSet;
  const Seen one = AskOneHost();
  StartGroup();

  ExpectSame(Ask(), one);
  for (const int host : {0, 1}) {
    EXPECT_EQ(RanksOf(host).size(), 2u);
    EXPECT_THAT(host_[host]->Output(), HasSubstr(" of 4 at =wire, host conclave-rank-"));
  }
  EXPECT_THAT(host_[0]->Output(), HasSubstr("shared, which is slow gpus=1 ranks=2"));
}

// NCCL must be told the same on both.
TEST_F(GpuHostsTest, WhereOneHostsRanksShareAGpuAllJoinAsIfTheyDid) {
  tp_ = 4;
  StartHost(0, {}, {"FAKE_CUDA_DEVICES=2"});
  StartHost(1);

  ASSERT_TRUE(HostSays(0, "epoch 1 is ready")) << host_[0]->Output() << host_[1]->Output();

  for (const int host : {0, 1}) {
    EXPECT_THAT(host_[host]->Output(), HasSubstr(" of 4 at =wire, host conclave-rank-"));
  }
  EXPECT_THAT(host_[0]->Output(), HasSubstr("device 1"));
}

TEST_F(GpuHostsTest, WhereAHostHasNoGpuAutoTakesTheCpuOnAll) {
  const std::vector<std::string> automatic = {"group.device=auto"};
  StartHost(0, automatic);
  StartHost(1, automatic, {"FAKE_CUDA_DEVICES=0"});

  EXPECT_TRUE(HostSays(0, "epoch 1 is ready")) << host_[0]->Output();

  EXPECT_THAT(host_[0]->Output(), HasSubstr("no CUDA device: using the CPU"));
  EXPECT_THAT(host_[0]->Output(), HasSubstr("rank 1 has cpu/"));
  EXPECT_THAT(host_[0]->Output(), HasSubstr("look at CUDA_VISIBLE_DEVICES"));
  EXPECT_THAT(host_[1]->Output(), HasSubstr("backend=cpu/"));
}

TEST_F(GpuHostsTest, WhereAHostHasNoGpuCudaIsRefusedWithTheRemedy) {
  StartHost(0, {});
  StartHost(1, {}, {"FAKE_CUDA_DEVICES=0"});

  EXPECT_EQ(host_[0]->Wait(kPatience), 1) << host_[0]->Output();

  EXPECT_THAT(host_[0]->Output(), HasSubstr("rank 1 "));
  EXPECT_THAT(host_[0]->Output(), HasSubstr("look at CUDA_VISIBLE_DEVICES"));
}

}  // namespace
}  // namespace conclave
