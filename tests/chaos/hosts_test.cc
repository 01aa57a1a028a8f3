// A group whose ranks are on two hosts: the same bytes as on one host, and what becomes of it when
// a host, a process or the network between them is lost.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <vector>

#include "tests/chaos/host_group.h"

namespace conclave {
namespace {

using ::testing::HasSubstr;

class HostsTest : public HostGroupTest {};

TEST_F(HostsTest, TwoRanksOnTwoHostsSayWhatTwoOnOneHostSay) {
  const Seen one = AskOneHost();
  StartGroup();

  const Seen two = Ask();

  ExpectSame(two, one);
  EXPECT_EQ(RanksOf(0).size(), 1u);
  EXPECT_EQ(RanksOf(1).size(), 1u);
  EXPECT_THAT(host_[0]->Output(), HasSubstr("neither encrypted nor signed"));
  host_[1]->Signal(SIGTERM);  // As Kubernetes does: all at once.
  host_[0]->Signal(SIGTERM);
  EXPECT_EQ(host_[0]->Wait(kPatience), 0);
  EXPECT_EQ(host_[1]->Wait(kPatience), 0);
}

TEST_F(HostsTest, FourRanksOfALeaderWorkerSetSayWhatFourOnOneHostSay) {
  tp_ = 4;
  by_ = By::kLeaderWorkerSet;
  const Seen one = AskOneHost();
  StartGroup();

  ExpectSame(Ask(), one);
  EXPECT_EQ(RanksOf(0).size(), 2u);
  EXPECT_EQ(RanksOf(1).size(), 2u);
}

TEST_F(HostsTest, HostsThatComputeDifferentlyAreFoundBeforeAnythingIsServed) {
  StartHost(0, {"group.device=cpu", "group.instruction_set=avx2"});
  StartHost(1, {"group.device=cpu", "group.instruction_set=plain"});

  EXPECT_EQ(host_[0]->Wait(kPatience), 1) << host_[0]->Output();

  EXPECT_THAT(host_[0]->Output(), HasSubstr("rank 1 has cpu/plain"));
}

TEST_F(HostsTest, ACutEndsTheRanksOnBothSidesAndTheAnswerIsTheSameAfterIt) {
  by_ = By::kTorchrun;
  StartGroup();
  const Seen undisturbed = Ask();
  ASSERT_TRUE(undisturbed.status.ok()) << host_[0]->Output() << host_[1]->Output();

  ExpectTheSameThrough(undisturbed, [&] {
    const std::vector<pid_t> far = RanksOf(1);
    net_->Cut(1);
    EXPECT_TRUE(HostSays(0, "host 1 has left: it has been silent for"));
    EXPECT_TRUE(HostSays(1, "host 0 is lost: it is silent"));
    for (const pid_t rank : far) {
      EXPECT_TRUE(Eventually(kPatience, [&] { return !IsAlive(rank); }));
    }
    net_->Mend(1);
  });
  EXPECT_THAT(host_[0]->Output(), HasSubstr("epoch 2 is ready"));
}

TEST_F(HostsTest, ProcessesThatAreKilledOnEitherHostAreReplaced) {
  StartGroup();
  const Seen undisturbed = Ask();
  ASSERT_TRUE(undisturbed.status.ok()) << host_[0]->Output() << host_[1]->Output();

  ExpectTheSameThrough(undisturbed, [&] { kill(RanksOf(1).at(0), SIGKILL); });
  EXPECT_TRUE(HostSays(0, "rank 1 (pid"));
  EXPECT_THAT(host_[0]->Output(), HasSubstr("was killed by signal 9 (SIGKILL)"));

  ExpectTheSameThrough(undisturbed, [&] {
    const std::vector<pid_t> ranks = RanksOf(1);
    host_[1]->Signal(SIGKILL);
    host_[1]->Wait(kPatience);
    for (const pid_t rank : ranks) {
      EXPECT_TRUE(Eventually(kPatience, [&] { return !IsAlive(rank); }));
    }
    EXPECT_TRUE(HostSays(0, "host 1 has left: its connection ended"));
    StartHost(1);
  });

  ExpectTheSameThrough(undisturbed, [&] {
    const std::vector<pid_t> far = RanksOf(1);
    host_[0]->Signal(SIGKILL);
    host_[0]->Wait(kPatience);
    EXPECT_TRUE(HostSays(1, "host 0 is lost"));
    for (const pid_t rank : far) {
      EXPECT_TRUE(Eventually(kPatience, [&] { return !IsAlive(rank); }));
    }
    StartHost(0);
  });
}

}  // namespace
}  // namespace conclave
