#include "worker/collective/gloo_collective.h"

#include <absl/strings/str_replace.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <utility>

#include "common/status.h"
#include "tests/unit/worker/collective/parts.h"
#include "worker/collective/gloo_address.h"
#include "worker/collective/shared_collective.h"

namespace conclave::worker {
namespace {

using testing::HasSubstr;

GlooOptions Options(int rank, int size) {
  return {.rank = rank, .size = size, .epoch = 3, .host = "127.0.0.1", .busy_poll = false};
}

std::unique_ptr<GlooEndpoint> Open(const GlooOptions& options) {
  auto endpoint = GlooEndpoint::Open(options);
  EXPECT_TRUE(endpoint.ok()) << endpoint.status();
  return *std::move(endpoint);
}

// Ranks that listen, and know of each other.
struct Ranks {
  explicit Ranks(std::vector<GlooOptions> options) {
    for (const GlooOptions& each : options) {
      endpoints.push_back(Open(each));
      addresses.push_back(endpoints.back()->address());
    }
  }
  static Ranks Of(int size, absl::Duration patience = absl::Minutes(1), bool busy_poll = false) {
    std::vector<GlooOptions> options;
    for (int r = 0; r < size; ++r) {
      options.push_back(Options(r, size));
      options.back().patience = patience;
      options.back().busy_poll = busy_poll;
    }
    return Ranks(std::move(options));
  }
  int size() const { return static_cast<int>(endpoints.size()); }
  absl::StatusOr<std::unique_ptr<Collective>> Join(int r) { return endpoints[r]->Join(addresses); }
  // Joins all, and runs work(collective) of each on its own thread.
  void OnEachRank(const std::function<void(Collective&)>& work) {
    OnThreads(size(), [&](int r) {
      const auto collective = Join(r);
      ASSERT_TRUE(collective.ok()) << collective.status();
      work(**collective);
    });
  }
  std::vector<std::unique_ptr<GlooEndpoint>> endpoints;
  std::vector<std::string> addresses;
};

absl::Status Sum(Collective& collective, std::vector<float>& x) {
  return collective.AllReduceSum(Tensor::Dense(x.data(), 1, static_cast<int64_t>(x.size())));
}

absl::Status SumOne(Collective& collective) {
  std::vector<float> x(1);
  return Sum(collective, x);
}

constexpr size_t kMost = 300'001;
constexpr size_t kCounts[] = {1, 3, 1000, 32'768, 32'769, 65'535, 65'536, 262'144, kMost};

TEST(GlooCollectiveTest, SumsHaveTheBitsOfRanksThatShareMemory) {
  for (const int size : {2, 3, 4, 8}) {
    Ranks ranks = Ranks::Of(size);
    ThreadGroup shared(size);
    const std::vector<float> expected = SumInRankOrder(size, kMost);
    ranks.OnEachRank([&](Collective& collective) {
      ASSERT_EQ(collective.size(), size);
      const auto other = shared.Rank(collective.rank());
      const std::vector<float> part = Part(collective.rank(), kMost);
      for (const size_t count : kCounts) {
        std::vector<float> x(part.data(), part.data() + count), y = x;
        ASSERT_TRUE(Sum(collective, x).ok());
        ASSERT_TRUE(Sum(*other, y).ok());
        EXPECT_EQ(std::memcmp(x.data(), expected.data(), count * sizeof(float)), 0)
            << size << " " << count;
        EXPECT_EQ(std::memcmp(x.data(), y.data(), count * sizeof(float)), 0)
            << size << " " << count;
      }
    });
  }
}

TEST(GlooCollectiveTest, ARowHasTheSameBitsAloneAndBesideOthers) {
  constexpr int64_t kRows = 40, kCols = 3000;
  Ranks ranks = Ranks::Of(3);
  ranks.OnEachRank([&](Collective& collective) {
    std::vector<float> rows = Part(collective.rank(), kRows * kCols);
    std::vector<float> alone(rows.begin() + 7 * kCols, rows.begin() + 8 * kCols);
    ASSERT_TRUE(collective.AllReduceSum(Tensor::Dense(rows.data(), kRows, kCols)).ok());
    ASSERT_TRUE(Sum(collective, alone).ok());
    EXPECT_EQ(std::memcmp(alone.data(), rows.data() + 7 * kCols, kCols * sizeof(float)), 0);
  });
}

TEST(GlooCollectiveTest, AStridedTensorsOtherColumnsStayAsTheyAre) {
  Ranks ranks = Ranks::Of(2);
  ranks.OnEachRank([](Collective& collective) {
    std::vector<float> x = {1, 2, 9, 3, 4, 9};
    ASSERT_TRUE(collective.AllReduceSum(Tensor{x.data(), DType::kF32, 2, 2, 3}).ok());
    EXPECT_EQ(x, (std::vector<float>{2, 4, 9, 6, 8, 9}));
  });
}

TEST(GlooCollectiveTest, GathersPartsInRankOrder) {
  for (const int size : {2, 3}) {
    Ranks ranks = Ranks::Of(size);
    ranks.OnEachRank([&](Collective& collective) {
      for (const size_t count : {size_t{1}, size_t{70'000}}) {
        const std::vector<float> part = Part(collective.rank(), count);
        std::vector<float> out(static_cast<size_t>(size) * count);
        ASSERT_TRUE(
            collective.AllGather(part.data(), static_cast<int64_t>(count), out.data()).ok());
        EXPECT_EQ(out, AllParts(size, count));
      }
    });
  }
}

TEST(GlooCollectiveTest, RanksThatSpinSumAlike) {
  Ranks ranks = Ranks::Of(2, absl::Minutes(1), true);
  ranks.OnEachRank([](Collective& collective) {
    for (const size_t count : {1, 70'000}) {
      std::vector<float> x = Part(collective.rank(), count);
      ASSERT_TRUE(Sum(collective, x).ok());
      EXPECT_EQ(x, SumInRankOrder(2, count));
    }
  });
}

TEST(GlooCollectiveTest, RanksMeetOverIpv6) {
  if (!LocalAddressOf("::1").ok()) GTEST_SKIP() << "this machine has no ::1";
  std::vector<GlooOptions> options = {Options(0, 2), Options(1, 2)};
  for (GlooOptions& each : options) each.host = "::1";
  Ranks ranks(options);
  ranks.OnEachRank([](Collective& collective) {
    std::vector<float> x = Part(collective.rank(), 5);
    ASSERT_TRUE(Sum(collective, x).ok());
    EXPECT_EQ(x, SumInRankOrder(2, 5));
  });
}

TEST(GlooCollectiveTest, APeerThatLeavesIsAnErrorThatStays) {
  Ranks ranks = Ranks::Of(2);
  ranks.OnEachRank([](Collective& collective) {
    ASSERT_TRUE(SumOne(collective).ok());
    if (collective.rank() == 1) return;  // And is destroyed.
    std::vector<float> x(300'000);
    const absl::Status lost = Sum(collective, x);
    EXPECT_EQ(lost.code(), absl::StatusCode::kUnavailable) << lost;
    EXPECT_THAT(std::string(MessageOf(lost)), HasSubstr("rank 1: "));
    EXPECT_EQ(SumOne(collective), lost);
    EXPECT_EQ(collective.AllGather(x.data(), 1, x.data()), lost);
  });
}

TEST(GlooCollectiveTest, TheEndOfOneRankIsSeenByAll) {
  Ranks ranks = Ranks::Of(4);
  ranks.OnEachRank([](Collective& collective) {
    ASSERT_TRUE(SumOne(collective).ok());
    if (collective.rank() == 3) return;
    std::vector<float> x(300'000);
    EXPECT_EQ(Sum(collective, x).code(), absl::StatusCode::kUnavailable);
  });
}

TEST(GlooCollectiveTest, APeerThatIsSilentIsAnErrorWhenPatienceEnds) {
  Ranks ranks = Ranks::Of(2, absl::Seconds(3));
  absl::StatusOr<std::unique_ptr<Collective>> silent;
  OnThreads(2, [&](int r) {
    auto collective = ranks.Join(r);
    ASSERT_TRUE(collective.ok()) << collective.status();
    if (r == 1) {
      silent = std::move(collective);
      return;
    }
    const absl::Status lost = SumOne(**collective);
    EXPECT_EQ(lost.code(), absl::StatusCode::kDeadlineExceeded) << lost;
    EXPECT_EQ(SumOne(**collective), lost);
  });

  // It still finds what was sent before.
  EXPECT_TRUE(SumOne(**silent).ok());
  EXPECT_EQ(SumOne(**silent).code(), absl::StatusCode::kUnavailable);
}

TEST(GlooCollectiveTest, APeerThatNeverConnectsIsNamed) {
  for (int r = 0; r < 2; ++r) {
    Ranks alone = Ranks::Of(2, absl::Milliseconds(100));
    // One of the two waits for the other's connection, one connects and waits for a greeting.
    const absl::Status status = alone.Join(r).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
    EXPECT_THAT(std::string(MessageOf(status)), HasSubstr(r == 0 ? "rank 1" : "rank 0"));
  }
}

TEST(GlooCollectiveTest, AProcessThatIsKilledIsAnError) {
  int up[2], down[2];  // How its address comes here, and ours there.
  ASSERT_EQ(pipe(up), 0);
  ASSERT_EQ(pipe(down), 0);
  const auto tell = [](int fd, const std::string& address) {
    std::string padded = address;
    padded.resize(kMaxGlooAddressBytes);
    return write(fd, padded.data(), padded.size()) == static_cast<ssize_t>(padded.size());
  };
  const auto hear = [](int fd) {  // Less than what a pipe takes at once.
    std::string padded(kMaxGlooAddressBytes, '\0');
    EXPECT_EQ(read(fd, padded.data(), padded.size()), static_cast<ssize_t>(padded.size()));
    return std::string(padded.c_str());
  };
  const pid_t child = fork();
  if (child == 0) {
    const auto endpoint = Open(Options(1, 2));
    tell(up[1], endpoint->address());
    const auto collective = endpoint->Join({hear(down[0]), endpoint->address()});
    if (collective.ok() && SumOne(**collective).ok()) kill(getpid(), SIGKILL);
    _exit(1);
  }
  const auto endpoint = Open(Options(0, 2));
  EXPECT_TRUE(tell(down[1], endpoint->address()));
  const auto collective = endpoint->Join({endpoint->address(), hear(up[0])});
  ASSERT_TRUE(collective.ok()) << collective.status();

  EXPECT_TRUE(SumOne(**collective).ok());
  EXPECT_EQ(SumOne(**collective).code(), absl::StatusCode::kUnavailable);

  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status));
  for (const int fd : {up[0], up[1], down[0], down[1]}) close(fd);
}

TEST(GlooCollectiveTest, AnAddressOfSomeoneElseIsRefused) {
  Ranks ranks = Ranks::Of(2);
  const std::string other = ranks.addresses[1];
  for (const auto& [address, reason] : std::vector<std::pair<std::string, std::string>>{
           {"hello", "rank 1's address: it does not begin with"},
           {absl::StrReplaceAll(other, {{"gloo/1 3 ", "gloo/1 2 "}}),
            "rank 1's address is of rank 1 of 2 in epoch 2; this is a group of 2 in epoch 3"},
           {ranks.addresses[0], "rank 1's address is of rank 0 of 2 in epoch 3"},
           {"gloo/1 3 1 3 127.0.0.1:9 - 127.0.0.1:9", "rank 1's address is of rank 1 of 3"}}) {
    const absl::Status status = ranks.endpoints[0]->Join({ranks.addresses[0], address}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(MessageOf(status)), HasSubstr(reason));
  }
  EXPECT_EQ(ranks.endpoints[0]->Join({other}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(GlooCollectiveTest, AHostThatIsNotHereIsRefused) {
  GlooOptions options = Options(0, 2);
  options.host = "192.0.2.1";

  EXPECT_EQ(GlooEndpoint::Open(options).status().code(), absl::StatusCode::kInvalidArgument);
}

// Their addresses say the same epoch, as if someone had changed them: their greetings do not.
TEST(GlooCollectiveTest, RanksOfTwoEpochsDoNotMeet) {
  GlooOptions options[] = {Options(0, 2), Options(1, 2)};
  options[1].epoch = 2;
  Ranks ranks({options[0], options[1]});
  const std::vector<std::string> told[] = {
      {ranks.addresses[0], absl::StrReplaceAll(ranks.addresses[1], {{"gloo/1 2", "gloo/1 3"}})},
      {absl::StrReplaceAll(ranks.addresses[0], {{"gloo/1 3", "gloo/1 2"}}), ranks.addresses[1]}};
  OnThreads(2, [&](int r) {
    const absl::Status status = ranks.endpoints[r]->Join(told[r]).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  });
}

// Of the two doors between two ranks the one that someone connects to: the lower, as the library
// compares them.
std::pair<int, sockaddr_storage> Listening(const Ranks& ranks) {
  sockaddr_storage doors[2];
  for (int r = 0; r < 2; ++r) {
    const auto address = ParseGlooAddress(ranks.addresses[r]);
    EXPECT_TRUE(address.ok());
    doors[r] = address->doors[1 - r];
  }
  const auto port = [](const sockaddr_storage& door) {
    sockaddr_in v4;
    std::memcpy(&v4, &door, sizeof(v4));
    return v4.sin_port;
  };
  const int rank = port(doors[0]) < port(doors[1]) ? 0 : 1;
  return {rank, doors[rank]};
}

TEST(GlooCollectiveTest, AStrangerWhoConnectsFirstMakesTheJoinFail) {
  const std::string no_buffer("\x30\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x07", 17);
  for (const std::string& says :
       {std::string(), std::string("GET / HTTP/1.1\r\nHost: conclave\r\nAccept: */*\r\n\r\n"),
        std::string(48, '\0'), std::string(1000, '\xff'), no_buffer + std::string(31, '\0')}) {
    Ranks ranks = Ranks::Of(2, absl::Milliseconds(500));
    const auto [listens, door] = Listening(ranks);
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&door), BytesOf(door)), 0);
    ASSERT_EQ(send(fd, says.data(), says.size(), MSG_NOSIGNAL), static_cast<ssize_t>(says.size()));
    const bool leaves = says.empty();
    if (leaves) close(fd);
    OnThreads(2, [&](int r) {
      auto collective = ranks.Join(r);
      EXPECT_FALSE(collective.ok()) << says;
    });
    if (!leaves) close(fd);
  }
}

TEST(GlooCollectiveTest, NoDescriptorIsLeftOpen) {
  const auto open = [] {
    const std::filesystem::directory_iterator all("/proc/self/fd");
    return std::distance(begin(all), end(all));
  };
  const auto before = open();
  {
    Ranks ranks = Ranks::Of(3);
    EXPECT_GT(open(), before);
    ranks.OnEachRank([](Collective& collective) { ASSERT_TRUE(SumOne(collective).ok()); });
    Ranks never_joined = Ranks::Of(3);
    Ranks waits = Ranks::Of(3, absl::Milliseconds(20));
    EXPECT_FALSE(waits.Join(0).ok());
  }

  EXPECT_EQ(open(), before);
}

}  // namespace
}  // namespace conclave::worker
