#include "worker/group/shm_channel.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "worker/group/patience.h"

namespace conclave::worker {
namespace {

// A step's plan and marks often follow within microseconds, less than a sleep and a waking cost.
constexpr int kSpins = 500;

inline void Relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Waits until `ready()`; kCancelled when the channel is closed before, kDeadlineExceeded when
// `patience` (nullptr: without end) is over.
template <typename Ready>
absl::Status WaitUntil(GroupHeader& header, Bell& bell, Patience* patience, Ready ready) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (ready()) return absl::OkStatus();
    Relax();
  }
  while (true) {
    const uint32_t seen = bell.count();
    if (ready()) return absl::OkStatus();
    if (header.closed.load(std::memory_order_acquire) != 0) {
      return Cancelled("the control channel is closed");
    }
    if (patience == nullptr) {
      bell.Wait(seen, absl::Seconds(1));
      continue;
    }
    if (patience->over()) return DeadlineExceeded("waited in vain");
    const absl::Duration turn = patience->Turn();
    const int64_t before = MonotonicNanos();
    bell.Wait(seen, turn);
    patience->Spend(turn, absl::Nanoseconds(MonotonicNanos() - before));
  }
}

}  // namespace

ShmLeaderChannel::ShmLeaderChannel(GroupMemory& memory)
    : memory_(memory), ring_(memory.header().ring, memory.ring()) {}

int ShmLeaderChannel::num_followers() const { return memory_.tp() - 1; }

uint64_t ShmLeaderChannel::SlowestReader() const {
  uint64_t slowest = ring_.written();
  for (int rank = 1; rank < memory_.tp(); ++rank) {
    slowest = std::min(slowest, memory_.cell(rank).ring_read.load(std::memory_order_acquire));
  }
  return slowest;
}

absl::Status ShmLeaderChannel::Send(uint64_t number, std::string_view message,
                                    absl::Duration patience) {
  if (message.size() > kMaxMessageBytes) {
    return OutOfRange("message has {} bytes; the limit is {}", message.size(), kMaxMessageBytes);
  }
  GroupHeader& header = memory_.header();
  Patience left(patience);
  size_t sent = 0;
  for (uint32_t part = 0; part == 0 || sent < message.size(); ++part) {
    const std::string_view piece = message.substr(sent, ring_.max_piece_bytes());
    const absl::Status room = WaitUntil(header, header.leader_bell, &left, [&] {
      return ring_.HasRoom(piece.size(), SlowestReader());
    });
    if (!room.ok()) return Annotate(room, fmt::format("no room for step {}", number));
    if (header.closed.load(std::memory_order_acquire) != 0) {
      return Cancelled("the control channel is closed");
    }
    sent += piece.size();
    ring_.Append(number, part, sent == message.size(), piece);
    header.plan_bell.Ring();
  }
  return absl::OkStatus();
}

absl::StatusOr<DoneMark> ShmLeaderChannel::AwaitDone(int follower, uint64_t number,
                                                     absl::Duration patience) {
  CHECK(follower >= 0 && follower < num_followers());
  RankCell& cell = memory_.cell(follower + 1);
  RankCell::Mark& mark = cell.marks[number % cell.marks.size()];
  GroupHeader& header = memory_.header();
  Patience left(patience);
  const absl::Status waited = WaitUntil(header, header.leader_bell, &left, [&] {
    return mark.number.load(std::memory_order_acquire) >= number;
  });
  RETURN_IF_ERROR(waited);
  const DoneMark done{.number = mark.number.load(std::memory_order_acquire),
                      .hash = mark.hash.load(std::memory_order_acquire)};
  if (done.number != number) {
    return DataLoss("rank {} reports step {} in place of {}", follower + 1, done.number, number);
  }
  return done;
}

void ShmLeaderChannel::Close() {
  GroupHeader& header = memory_.header();
  header.closed.store(1, std::memory_order_release);
  header.plan_bell.Ring();
  header.leader_bell.Ring();
}

ShmFollowerChannel::ShmFollowerChannel(GroupMemory& memory, int rank)
    : memory_(memory), cell_(memory.cell(rank)), ring_(memory.header().ring, memory.ring()) {
  CHECK(rank > 0);
}

absl::StatusOr<PlanRing::Piece> ShmFollowerChannel::NextPiece() {
  GroupHeader& header = memory_.header();
  uint64_t position = cell_.ring_read.load(std::memory_order_relaxed);
  RETURN_IF_ERROR(
      WaitUntil(header, header.plan_bell, nullptr, [&] { return ring_.written() != position; }));
  ASSIGN_OR_RETURN(std::optional<PlanRing::Piece> piece, ring_.Read(position));
  CHECK(piece.has_value());
  cell_.ring_read.store(position, std::memory_order_release);
  header.leader_bell.Ring();
  return *std::move(piece);
}

absl::StatusOr<std::string> ShmFollowerChannel::Receive() {
  std::string message;
  uint64_t number = 0;
  for (uint32_t part = 0;; ++part) {
    ASSIGN_OR_RETURN(PlanRing::Piece piece, NextPiece());
    if (part == 0) number = piece.number;
    if (piece.part != part || piece.number != number) {
      return DataLoss("ring holds part {} of step {} in place of part {} of step {}", piece.part,
                      piece.number, part, number);
    }
    if (piece.bytes.size() > kMaxMessageBytes - message.size()) {
      return DataLoss("message of step {} goes on beyond {} bytes", number, kMaxMessageBytes);
    }
    message += piece.bytes;
    if (piece.last) return message;
  }
}

void ShmFollowerChannel::Report(const DoneMark& done) {
  RankCell::Mark& mark = cell_.marks[done.number % cell_.marks.size()];
  mark.hash.store(done.hash, std::memory_order_release);
  mark.number.store(done.number, std::memory_order_release);
  memory_.header().leader_bell.Ring();
}

}  // namespace conclave::worker
