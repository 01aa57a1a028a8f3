#include "worker/collective/gloo_collective.h"

#include <absl/synchronization/notification.h>
#include <gloo/common/error.h>
#include <gloo/transport/tcp/address.h>
#include <gloo/transport/tcp/device.h>
#include <signal.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <string_view>
#include <thread>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "worker/collective/gloo_address.h"
#include "worker/collective/rows.h"

namespace conclave::worker {
namespace {

namespace tcp = gloo::transport::tcp;

// What travels in one message: 128 KB. A rank writes to all peers before it reads, so that a
// message must fit between two ranks while the one before it is still unread there. The library
// makes a socket's send buffer as large as its largest message: the first one, a greeting, has
// twice the size of any other. (Without it, writes wait for reads: 1 MB takes six times as long.)
constexpr int64_t kMessageFloats = int64_t{32} << 10;
constexpr int64_t kGreetingFloats = 2 * kMessageFloats;
// From here on more than two ranks share the sum out. 64 KB: on a fast network the bytes that this
// saves take as long as its second exchange.
constexpr int64_t kLeastShared = int64_t{16} << 10;

// The first message of each direction.
struct Greeting {
  char magic[8] = {'c', 'o', 'n', 'c', 'l', 'a', 'v', 'e'};
  int64_t epoch = 0;
  int32_t from = 0, to = 0, size = 0, unused = 0;
};

// Runs what may throw, as the library does; says which peer it was about.
template <typename Work>
absl::Status AboutPeer(int peer, const Work& work) {
  try {
    work();
    return absl::OkStatus();
  } catch (const gloo::IoException& error) {
    std::string_view text = error.what();  // "[file:line] what happened"
    if (const size_t end = text.find("] "); text.starts_with("[") && end != text.npos) {
      text.remove_prefix(end + 2);
    }
    if (text.find("timeout") != text.npos) return DeadlineExceeded("rank {}: {}", peer, text);
    return Unavailable("rank {}: {}", peer, text);
  } catch (const std::exception& error) {
    return Internal("rank {}: {}", peer, error.what());
  }
}

}  // namespace

// A connection to each peer. Once they stand, their owner's thread alone reads and writes them.
struct GlooEndpoint::Links {
  struct Peer {
    gloo::transport::Pair* pair = nullptr;  // Null at this rank's own place.
    std::vector<float> part;                // What it sent last.
    std::unique_ptr<gloo::transport::Buffer> in;
  };

  Links(const GlooOptions& options, const sockaddr_storage& host)
      : rank(options.rank), peers(static_cast<size_t>(options.size)) {
    tcp::attr attributes;
    attributes.ai_family = host.ss_family;
    attributes.ai_socktype = SOCK_STREAM;
    attributes.ai_protocol = 0;
    attributes.ai_addr = host;
    attributes.ai_addrlen = static_cast<int>(BytesOf(host));
    context = std::make_shared<tcp::Device>(attributes)->createContext(options.rank, options.size);
    context->setTimeout(absl::ToChronoMilliseconds(options.patience));
    for (int r = 0; r < options.size; ++r) {
      if (r == rank) continue;
      Peer& peer = at(r);
      peer.part.resize(kGreetingFloats);
      peer.pair = context->createPair(r).get();
      // Known before anyone connects: its first bytes may come before this rank looks at them.
      // Slots are named after the receiver.
      peer.in =
          peer.pair->createRecvBuffer(rank, peer.part.data(), sizeof(float) * kGreetingFloats);
    }
  }
  // Until the ranks have joined the library may be writing into what goes. Afterwards a peer may
  // still have to read what was sent: then nothing is cut off.
  ~Links() {
    if (!joined) Close();
  }
  Links(const Links&) = delete;
  Links& operator=(const Links&) = delete;

  Peer& at(int r) { return peers[static_cast<size_t>(r)]; }

  // Cuts the connections: peers see it at once. Any thread; waits for a read or write that runs.
  void Close() {
    for (Peer& peer : peers) {
      if (peer.pair != nullptr) peer.pair->close();
    }
  }

  // At most kMessageFloats of data, which may change when this returns.
  absl::Status Send(int r, const void* data, size_t bytes) {
    return AboutPeer(r, [&] {
      const auto out = at(r).pair->createSendBuffer(r, const_cast<void*>(data), bytes);
      out->send();
      out->waitSend();
    });
  }
  absl::Status Receive(int r) {
    return AboutPeer(r, [&] { at(r).in->waitRecv(); });
  }

  // All connections, in order of rank, as all ranks do: so that someone can always go on.
  absl::Status ConnectAll(const std::vector<GlooAddress>& addresses, bool busy_poll,
                          int* waits_for) {
    for (int r = 0; r < static_cast<int>(peers.size()); ++r) {
      if (r == rank) continue;
      *waits_for = r;
      const sockaddr_storage& door =
          addresses[static_cast<size_t>(r)].doors[static_cast<size_t>(rank)];
      RETURN_IF_ERROR(AboutPeer(r, [&] {
        at(r).pair->connect(tcp::Address(door).bytes());
        at(r).pair->setSync(true, busy_poll);  // From now on no other thread reads.
      }));
    }
    return absl::OkStatus();
  }

  absl::Status Greet(const GlooOptions& options) {
    Greeting greeting{.epoch = options.epoch, .from = rank, .size = options.size};
    std::vector<float> padded(kGreetingFloats);
    for (int r = 0; r < options.size; ++r) {
      if (r == rank) continue;
      greeting.to = r;
      std::memcpy(padded.data(), &greeting, sizeof(greeting));
      RETURN_IF_ERROR(Send(r, padded.data(), sizeof(float) * kGreetingFloats));
    }
    for (int r = 0; r < options.size; ++r) {
      if (r == rank) continue;
      RETURN_IF_ERROR(Receive(r));
      greeting.from = r, greeting.to = rank;
      if (std::memcmp(at(r).part.data(), &greeting, sizeof(greeting)) != 0) {
        return Unavailable("rank {}: someone else connected, or a rank of another epoch than {}", r,
                           options.epoch);
      }
    }
    return absl::OkStatus();
  }

  const int rank;
  std::shared_ptr<gloo::transport::Context> context;
  bool joined = false;
  std::vector<Peer> peers;  // [rank]
};

class GlooEndpoint::Ranks : public Collective {
 public:
  Ranks(int size, std::unique_ptr<Links> links)
      : rank_(links->rank), size_(size), links_(std::move(links)) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string name() const override { return "gloo"; }

  absl::Status AllReduceSum(Tensor x) override {
    float* data = dense_.Pack(x);
    const int64_t count = x.rows * x.cols;
    for (int64_t at = 0; at < count;) {
      const int64_t shared = std::min(count - at, size_ * kMessageFloats) / size_;
      const bool share = size_ > 2 && count - at >= kLeastShared;
      const int64_t summed = share ? shared * size_ : std::min(count - at, kMessageFloats);
      RETURN_IF_ERROR(Lasting(share ? Share(data + at, shared) : Gather(data + at, summed)));
      at += summed;
    }
    dense_.Unpack(data, x);
    return absl::OkStatus();
  }

  absl::Status AllGather(const float* part, int64_t count, float* out) override {
    for (int64_t at = 0; at < count; at += kMessageFloats) {
      const int64_t slice = std::min(kMessageFloats, count - at);
      RETURN_IF_ERROR(Lasting(GatherSlice(part + at, slice, out + at, count)));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Lasting(absl::Status status) {
    if (!status.ok() && lost_.ok()) {
      lost_ = std::move(status);
      links_->Close();
    }
    return lost_;
  }

  template <typename Each>  // From the next rank on: no rank is written to by all at once.
  absl::Status ToAllPeers(const Each& each) {
    RETURN_IF_ERROR(lost_);
    for (int i = 1; i < size_; ++i) RETURN_IF_ERROR(each((rank_ + i) % size_));
    return absl::OkStatus();
  }

  absl::Status Send(int r, const float* part, int64_t count) {
    return links_->Send(r, part, static_cast<size_t>(count) * sizeof(float));
  }

  // x = the sum of x and what peers send now, in rank order: `count` floats.
  absl::Status AddPeers(float* x, int64_t count) {
    float* sum = nullptr;
    for (int r = 0; r < size_; ++r) {
      if (r != rank_) RETURN_IF_ERROR(links_->Receive(r));
      float* part = r == rank_ ? x : links_->at(r).part.data();
      float* next = r >= rank_ ? x : links_->at(0).part.data();  // x waits for its turn.
      if (sum != nullptr) {
        Add(sum, part, next, count);
        sum = next;
      } else {
        sum = part;
      }
    }
    return absl::OkStatus();
  }

  // Every rank gets all parts, and adds them.
  absl::Status Gather(float* x, int64_t count) {
    RETURN_IF_ERROR(ToAllPeers([&](int r) { return Send(r, x, count); }));
    return AddPeers(x, count);
  }

  // Rank r gets all parts of the r-th of `size` shares and adds them; then all get all sums. The
  // same additions in the same order as Gather's, and fewer bytes.
  absl::Status Share(float* x, int64_t share) {
    RETURN_IF_ERROR(ToAllPeers([&](int r) { return Send(r, x + r * share, share); }));
    RETURN_IF_ERROR(AddPeers(x + rank_ * share, share));
    return GatherSlice(x + rank_ * share, share, x, share);
  }

  // out[r * stride ...] = rank r's part, of `count` floats.
  absl::Status GatherSlice(const float* part, int64_t count, float* out, int64_t stride) {
    RETURN_IF_ERROR(ToAllPeers([&](int r) { return Send(r, part, count); }));
    if (part != out + rank_ * stride) std::copy_n(part, count, out + rank_ * stride);
    for (int r = 0; r < size_; ++r) {
      if (r == rank_) continue;
      RETURN_IF_ERROR(links_->Receive(r));
      std::copy_n(links_->at(r).part.data(), count, out + r * stride);
    }
    return absl::OkStatus();
  }

  const int rank_, size_;
  const std::unique_ptr<Links> links_;
  DenseRows dense_;
  absl::Status lost_;
};

GlooEndpoint::GlooEndpoint(const GlooOptions& options, std::unique_ptr<Links> links,
                           std::string address)
    : options_(options), links_(std::move(links)), address_(std::move(address)) {}

GlooEndpoint::~GlooEndpoint() = default;

absl::StatusOr<std::unique_ptr<GlooEndpoint>> GlooEndpoint::Open(const GlooOptions& options) {
  CHECK(options.size >= 2 && options.size <= kMaxGlooRanks);
  CHECK(options.rank >= 0 && options.rank < options.size);
  CHECK(options.patience >= absl::Milliseconds(1));
  ASSIGN_OR_RETURN(const sockaddr_storage host, LocalAddressOf(options.host));
  signal(SIGPIPE, SIG_IGN);  // A lost peer is an error of the write.
  std::unique_ptr<Links> links;
  GlooAddress address{options.epoch, options.rank, options.size, {}};
  const absl::Status opened = AboutPeer(options.rank, [&] {
    links = std::unique_ptr<Links>(new Links(options, host));
    for (const Links::Peer& peer : links->peers) {
      address.doors.push_back(peer.pair == nullptr
                                  ? sockaddr_storage{}
                                  : tcp::Address(peer.pair->address().bytes()).getSockaddr());
    }
  });
  RETURN_IF_ERROR(Annotate(opened, fmt::format("cannot listen on '{}'", options.host)));
  return std::unique_ptr<GlooEndpoint>(
      new GlooEndpoint(options, std::move(links), TextOf(address)));
}

absl::StatusOr<std::unique_ptr<Collective>> GlooEndpoint::Join(
    const std::vector<std::string>& addresses) {
  CHECK(links_ != nullptr);
  if (addresses.size() != static_cast<size_t>(options_.size)) {
    return InvalidArgument("the group has {} ranks; there are {} addresses", options_.size,
                           addresses.size());
  }
  std::vector<GlooAddress> parsed;
  for (int r = 0; r < options_.size; ++r) {
    auto address = ParseGlooAddress(addresses[static_cast<size_t>(r)]);
    if (!address.ok()) return Annotate(address.status(), fmt::format("rank {}'s address", r));
    if (address->epoch != options_.epoch || address->rank != r || address->size != options_.size) {
      return InvalidArgument(
          "rank {}'s address is of rank {} of {} in epoch {}; this is a group of {} in epoch {}", r,
          address->rank, address->size, address->epoch, options_.size, options_.epoch);
    }
    parsed.push_back(*std::move(address));
  }
  // On a thread of its own: the library waits for a peer as long as it likes.
  absl::Notification done;
  absl::Status status;
  int waits_for = 0;
  std::thread connecting([&] {
    status = links_->ConnectAll(parsed, options_.busy_poll, &waits_for);
    done.Notify();
  });
  const bool came = done.WaitForNotificationWithTimeout(options_.patience);
  if (!came) links_->Close();
  connecting.join();
  if (!came) {
    return DeadlineExceeded("rank {} waited {} for rank {} to connect", options_.rank,
                            absl::FormatDuration(options_.patience), waits_for);
  }
  if (status.ok()) status = links_->Greet(options_);
  if (!status.ok()) {
    links_->Close();
    return status;
  }
  links_->joined = true;
  return std::make_unique<Ranks>(options_.size, std::move(links_));
}

}  // namespace conclave::worker
