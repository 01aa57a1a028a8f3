// Measures how long ranks take to sum, beside the least that the same bytes take: over TCP, two
// threads that write and read them over sockets of their own, and in shared memory, the copies and
// additions without a wait. And the steps of the model that ships, over TCP beside shared memory.
// On one host, and (as root) between two network namespaces.
// Each figure is the best of several tries, taken in turn, each the mean of many calls.
//
//   collective_bench [--quick]     --quick: few calls, to see that it runs.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <barrier>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/status.h"
#include "tests/bench/engine_bench.h"
#include "tests/bench/table.h"
#include "tests/fakes/thread_ranks.h"
#include "tests/integration/net_hosts.h"
#include "worker/collective/gloo_collective.h"
#include "worker/collective/hosts_collective.h"
#include "worker/collective/rows.h"
#include "worker/collective/shared_collective.h"

namespace conclave::bench {
namespace {

using worker::Collective;
using Collectives = std::vector<std::unique_ptr<Collective>>;

constexpr size_t kPiece = size_t{128} << 10;  // What is written before it is read.

// One thread a rank; each does its part of a call. All take part in every call.
using Party = std::vector<std::function<void()>>;

double SecondsOf(const Party& party, int calls) {
  double seconds = 0;
  std::vector<std::thread> threads;
  for (size_t r = 0; r < party.size(); ++r) {
    threads.emplace_back([&, r] {
      party[r]();  // From here on all are awake.
      const absl::Time begin = absl::Now();
      for (int i = 0; i < calls; ++i) party[r]();
      if (r == 0) seconds = absl::ToDoubleSeconds(absl::Now() - begin) / calls;
    });
  }
  for (std::thread& each : threads) each.join();
  return seconds;
}

// Where ranks are: all on this host, or each on a host of its own.
struct Place {
  std::string name;
  std::function<std::string(int rank)> address = [](int) { return "127.0.0.1"; };
  std::function<void(int rank)> enter = [](int) {};  // What this thread opens is there.
};

// Two connected sockets, as fast as they are made.
class Sockets {
 public:
  explicit Sockets(const Place& place) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    CHECK(inet_pton(AF_INET, place.address(0).c_str(), &address.sin_addr) == 1);
    socklen_t bytes = sizeof(address);
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    int listener = -1;
    std::thread([&] {
      place.enter(0);
      listener = socket(AF_INET, SOCK_STREAM, 0);
      CHECK(bind(listener, any, bytes) == 0 && listen(listener, 1) == 0);
      CHECK(getsockname(listener, any, &bytes) == 0);
    }).join();
    std::thread([&] {
      place.enter(1);
      ends_[1] = socket(AF_INET, SOCK_STREAM, 0);
      CHECK(connect(ends_[1], any, bytes) == 0);
    }).join();
    ends_[0] = accept(listener, nullptr, nullptr);
    close(listener);
    const int yes = 1, room = 4 * static_cast<int>(kPiece);
    for (const int end : ends_) {
      CHECK(setsockopt(end, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)) == 0);
      CHECK(setsockopt(end, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)) == 0);
    }
  }
  ~Sockets() {
    for (const int end : ends_) close(end);
  }

  // Both write so many bytes, and read as many.
  Party Exchange(size_t bytes) const {
    Party party;
    for (const int end : ends_) {
      party.push_back([end, bytes, memory = std::vector<char>(bytes)]() mutable {
        for (size_t at = 0; at < bytes; at += kPiece) {
          const size_t piece = std::min(kPiece, bytes - at);
          CHECK(write(end, memory.data() + at, piece) == static_cast<ssize_t>(piece));
          CHECK(recv(end, memory.data() + at, piece, MSG_WAITALL) == static_cast<ssize_t>(piece));
        }
      });
    }
    return party;
  }

 private:
  std::array<int, 2> ends_;
};

Collectives OverTcp(const Place& place, bool busy_poll) {
  constexpr int kSize = 2;
  std::vector<std::string> addresses(kSize);
  Collectives ranks(kSize);
  std::barrier all_listen(kSize);
  std::vector<std::thread> joining;
  for (int r = 0; r < kSize; ++r) {
    joining.emplace_back([&, r] {
      place.enter(r);
      auto endpoint = worker::GlooEndpoint::Open(
          {.rank = r, .size = kSize, .host = place.address(r), .busy_poll = busy_poll});
      CHECK(endpoint.ok());
      addresses[r] = (*endpoint)->address();
      all_listen.arrive_and_wait();
      auto joined = (*endpoint)->Join(addresses);
      CHECK(joined.ok());
      ranks[r] = *std::move(joined);
    });
  }
  for (std::thread& each : joining) each.join();
  return ranks;
}

// Two hosts of two ranks each, whose memory is this process's.
struct TwoHosts {
  explicit TwoHosts(const Place& where) {
    Collectives across[] = {OverTcp(where, false), OverTcp(where, false)};  // [place][host]
    for (size_t rank = 0; rank < 4; ++rank) {
      const size_t host = rank / 2, place = rank % 2;
      ranks.push_back(std::make_unique<worker::HostsCollective>(
          std::move(across[place][host]), memory[host].Rank(static_cast<int>(place))));
    }
  }
  std::array<worker::ThreadGroup, 2> memory = {worker::ThreadGroup(2), worker::ThreadGroup(2)};
  Collectives ranks;  // Go before their memory.
};

Party Sum(const Collectives& ranks, size_t bytes) {
  Party party;
  for (const std::unique_ptr<Collective>& rank : ranks) {
    party.push_back([&rank, x = std::vector<float>(bytes / sizeof(float))]() mutable {
      const auto count = static_cast<int64_t>(x.size());
      CHECK(rank->AllReduceSum(worker::Tensor::Dense(x.data(), 1, count)).ok());
    });
  }
  return party;
}

// What a rank of two does in shared memory: puts its part, takes the first, adds the second.
Party CopiesAndAdditions(size_t bytes) {
  const size_t floats = bytes / sizeof(float);
  return {[x = std::vector<float>(floats), mine = std::vector<float>(floats),
           other = std::vector<float>(floats)]() mutable {
    std::copy(x.begin(), x.end(), mine.begin());
    std::copy(mine.begin(), mine.end(), x.begin());
    worker::Add(x.data(), other.data(), x.data(), static_cast<int64_t>(x.size()));
  }};
}

struct Measured {
  std::string what;
  Party party, floor;
  std::string bound;
  double seconds = std::numeric_limits<double>::infinity(), least = seconds;
};

void Measure(std::vector<Measured> rows, int tries, int calls) {
  for (int i = 0; i < tries; ++i) {  // In turn: noise meets all alike.
    for (Measured& row : rows) {
      row.least = std::min(row.least, SecondsOf(row.floor, calls));
      row.seconds = std::min(row.seconds, SecondsOf(row.party, calls));
    }
  }
  for (const Measured& row : rows) {
    Print({.what = row.what,
           .achieved = row.seconds * 1e6,
           .ceiling = row.least * 1e6,
           .unit = "us",
           .bound = row.bound,
           .less_is_better = true});
  }
}

void SumRows(const std::vector<Place>& places, size_t bytes, int tries, int calls) {
  worker::ThreadGroup memory(2);
  Collectives shared;
  for (int r = 0; r < 2; ++r) shared.push_back(memory.Rank(r));
  const std::string what = fmt::format("sum of {} KB, ", bytes >> 10);
  Measure({{what + "2 ranks, shared memory", Sum(shared, bytes), CopiesAndAdditions(bytes),
            "its copies and additions"}},
          tries, calls);
  for (const Place& place : places) {
    const Sockets sockets(place);
    const Collectives waits = OverTcp(place, false), spins = OverTcp(place, true);
    const TwoHosts hosts(place);
    const std::string bare = "2 bare sockets, nothing added";
    Measure({{what + "2 ranks, " + place.name, Sum(waits, bytes), sockets.Exchange(bytes), bare},
             {what + "the same, spinning", Sum(spins, bytes), sockets.Exchange(bytes), bare},
             {what + "2 x 2 ranks, " + place.name, Sum(hosts.ranks, bytes), sockets.Exchange(bytes),
              bare}},
            tries, calls);
  }
}

absl::StatusOr<std::unique_ptr<SharedGroup>> Load(Collectives joined) {
  worker::LocalRunnerOptions options;
  options.model_dir = CONCLAVE_SOURCE_DIR "/models/conclave-demo";
  options.tp = 2;
  options.max_slots = 16;
  options.kv_tokens = 16 * 512;
  ASSIGN_OR_RETURN(auto ranks, worker::ThreadRanks::Create(options, 1, std::move(joined)));
  return std::make_unique<SharedGroup>(std::move(ranks));
}

absl::Status StepRows(const Place& place, int tries, int tokens) {
  ASSIGN_OR_RETURN(const auto shared, Load({}));
  ASSIGN_OR_RETURN(const auto tcp, Load(OverTcp(place, false)));
  for (const int agents : {1, 8}) {
    double seconds = std::numeric_limits<double>::infinity(), least = seconds;
    const Gang gang{.agents = agents, .tokens = tokens};
    for (int i = 0; i < tries; ++i) {
      ASSIGN_OR_RETURN(const Timing floor, RunRanks(*shared, gang));
      ASSIGN_OR_RETURN(const Timing timing, RunRanks(*tcp, gang));
      least = std::min(least, floor.rest / (tokens - 1));
      seconds = std::min(seconds, timing.rest / (tokens - 1));
    }
    Print({.what = fmt::format("step, demo, 2 ranks, {} agents, {}", agents, place.name),
           .achieved = seconds * 1e6,
           .ceiling = least * 1e6,
           .unit = "us",
           .bound = "the same over shared memory",
           .less_is_better = true});
  }
  return absl::OkStatus();
}

absl::Status Run(bool quick) {
  std::vector<Place> places = {{.name = "TCP on 1 host"}};
  const std::string why_not = NetHosts::WhyNot();
  std::optional<NetHosts> net;
  if (why_not.empty()) {
    net.emplace(2);
    places.push_back({.name = "TCP, 2 namespaces",
                      .address = [](int rank) { return NetHosts::AddressOf(rank % 2); },
                      .enter = [&](int rank) { net->Enter(rank % 2); }});
  } else {
    std::printf("without network namespaces: %s\n", why_not.c_str());
  }
  PrintHead();
  for (const int kilobytes : {4, 16, 128, 1024}) {
    SumRows(places, static_cast<size_t>(kilobytes) << 10, quick ? 1 : 15,
            quick ? 3 : std::min(400, 64 * 1024 / kilobytes));
  }
  for (const Place& place : places) {
    RETURN_IF_ERROR(StepRows(place, quick ? 1 : 15, quick ? 4 : 120));
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace conclave::bench

int main(int argc, char** argv) {
  const bool quick = argc == 2 && std::string(argv[1]) == "--quick";
  if (argc > 1 && !quick) {
    std::fprintf(stderr, "usage: collective_bench [--quick]\n");
    return 2;
  }
  try {
    const absl::Status status = conclave::bench::Run(quick);
    if (status.ok()) return 0;
    std::fprintf(stderr, "collective_bench: %s\n", status.ToString().c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "collective_bench: %s\n", error.what());
  }
  return 1;
}
