// The kernel alone: what the peers send is in the inbox before it begins. Ranks that really meet
// are tested in tests/unit/worker/collective/nccl.
#include "worker/backend/cuda/peer_sum.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/worker/backend/cuda/rig.h"

namespace conclave::worker::cuda {
namespace {

using ::testing::Each;
using ::testing::ElementsAreArray;

constexpr size_t kMost = kMostPeerFloats;

uint64_t Word(float value, uint32_t call) {
  return uint64_t{std::bit_cast<uint32_t>(value)} << 32 | call;
}

// One rank of a group; its peers are memory of this device.
class PeerSumTest : public Rig {
 protected:
  void SetUp() override {
    Rig::SetUp();
    if (IsSkipped()) return;
    int device = 0;
    ASSERT_EQ(cudaGetDevice(&device), cudaSuccess);
    ASSERT_EQ(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, device),
              cudaSuccess);
  }

  // Of which this one has made `calls`.
  void Join(int rank, int size, uint32_t calls) {
    args_.rank = rank, args_.size = size;
    next_ = calls + 1;
    for (int r = 0; r < size; ++r) args_.inboxes[r] = Upload(EmptyInbox());
    args_.calls = Upload(std::vector<uint32_t>(kPeerBlocks, calls));
    args_.late = Upload(std::vector<uint32_t>{0});
  }
  std::vector<uint64_t> EmptyInbox() const {
    return std::vector<uint64_t>(static_cast<size_t>(PeerInboxWords(args_.size)));
  }
  size_t At(int rank, uint32_t call) const {
    return (call % 2 * static_cast<size_t>(args_.size) + static_cast<size_t>(rank)) * kMost;
  }
  // Rank r's part of a call: sums differ with the order of addition.
  static std::vector<float> Part(int r, size_t count, uint32_t call) {
    std::vector<float> part = Random(count, static_cast<uint32_t>(r) + 100 * call);
    for (float& v : part) v *= r % 2 == 0 ? 1e6f : 1e-3f;
    return part;
  }
  // The next call, which the peers have made already, as the kernel does it: x afterwards.
  std::vector<float> Sum(size_t count) {
    const uint32_t call = next_++;
    const size_t sent = (call & 0xffffff) <= 1 ? kMost : count + count % 2;
    std::vector<uint64_t> inbox = Download(args_.inboxes[args_.rank], EmptyInbox().size());
    for (int r = 0; r < args_.size; ++r) {
      const std::vector<float> part = Part(r, count, call);
      for (size_t i = 0; r != args_.rank && i < sent; ++i) {
        inbox[At(r, call) + i] = Word(i < count ? part[i] : 0.0f, call);
      }
    }
    uint64_t* own = args_.inboxes[args_.rank];
    EXPECT_EQ(cudaMemcpy(own, inbox.data(), inbox.size() * 8, cudaMemcpyHostToDevice), cudaSuccess);
    float* x = Upload(Part(args_.rank, count, call));
    PeerSum(args_, x, static_cast<int64_t>(count), multiprocessors_, stream());
    return Download(x, count);
  }
  std::vector<float> Expected(size_t count, uint32_t call) const {
    std::vector<float> sum = Part(0, count, call);
    for (int r = 1; r < args_.size; ++r) {
      const std::vector<float> part = Part(r, count, call);
      for (size_t i = 0; i < count; ++i) sum[i] += part[i];
    }
    return sum;
  }
  // What a peer has got from this rank in a call.
  std::vector<uint64_t> Sent(int peer, uint32_t call) {
    const std::vector<uint64_t> inbox = Download(args_.inboxes[peer], EmptyInbox().size());
    return {inbox.begin() + static_cast<ptrdiff_t>(At(args_.rank, call)),
            inbox.begin() + static_cast<ptrdiff_t>(At(args_.rank, call) + kMost)};
  }

  PeerSumArgs args_;
  uint32_t next_ = 1;
  int multiprocessors_ = 0;
};

TEST_F(PeerSumTest, AddsInRankOrderForEverySizeOfGroupAndSum) {
  for (const int size : {2, 3, 8}) {
    const int rank = size / 2;
    Join(rank, size, 6);
    for (const size_t count : {size_t{1}, size_t{2}, size_t{511}, size_t{4096}, size_t{40'001}}) {
      const uint32_t call = next_;
      ASSERT_EQ(BitsOf(Sum(count)), BitsOf(Expected(count, call)))
          << count << " floats, rank " << rank << " of " << size;
    }
  }
}

TEST_F(PeerSumTest, SendsItsPartToAllPeersAndNothingBesides) {
  constexpr size_t kCount = 1001;
  Join(1, 3, 6);
  Sum(kCount);

  std::vector<uint64_t> expected(kMost);
  const std::vector<float> part = Part(1, kCount, 7);
  for (size_t i = 0; i < kCount; ++i) expected[i] = Word(part[i], 7);
  expected[kCount] = Word(0, 7);  // Numbers go in pairs.
  EXPECT_EQ(Sent(0, 7), expected);
  EXPECT_EQ(Sent(2, 7), expected);
  EXPECT_THAT(Sent(0, 6), Each(0));
}

TEST_F(PeerSumTest, TheNextCallLeavesTheWordsOfThisOneAlone) {
  Join(0, 2, 6);
  Sum(64);
  const std::vector<uint64_t> sent = Sent(1, 7);
  Sum(64);

  EXPECT_EQ(Sent(1, 7), sent);
  EXPECT_EQ(Sent(1, 8)[0], Word(Part(0, 64, 8)[0], 8));
}

TEST_F(PeerSumTest, BlocksWithoutNumbersCountTheCallToo) {
  Join(0, 2, 6);
  Sum(1);

  const auto blocks = static_cast<size_t>(std::min(kPeerBlocks, multiprocessors_));
  EXPECT_EQ(Download(args_.calls, blocks), std::vector<uint32_t>(blocks, 7));
}

TEST_F(PeerSumTest, AWordOfAnotherCallIsNotTaken) {
  Join(0, 2, 6);
  args_.patience_ns = 1'000;
  float* x = Upload(std::vector<float>{1, 2});
  PeerSum(args_, x, 2, multiprocessors_, stream());  // Nothing has come for call 7.

  EXPECT_EQ(Download(args_.late, 1)[0], 1u);
}

// 2^32 calls later a word could still stand there from the last time.
TEST_F(PeerSumTest, AllWordsAreSentAnewLongBeforeTheCountComesRound) {
  for (const uint32_t calls : {0u, (1u << 24) - 1, 1u << 24, 0xffff'ffffu}) {
    Join(0, 2, calls);
    const uint32_t call = next_;
    const std::vector<float> sum = Sum(10);
    ASSERT_EQ(BitsOf(sum), BitsOf(Expected(10, call)));
    EXPECT_EQ(Sent(1, call).back(), Word(0, call)) << "call " << call;
  }
}

}  // namespace
}  // namespace conclave::worker::cuda
