#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace conclave::worker {

// The longest message that a channel carries.
inline constexpr size_t kMaxMessageBytes = size_t{64} << 20;

// A follower's proof of one step.
struct DoneMark {
  uint64_t number = 0;
  uint64_t hash = 0;

  bool operator==(const DoneMark&) const = default;
};

// The control channel as the leader sees it: the same bytes in the same order to every follower,
// done-marks back. Waiting is counted in the waiter's own turns, so a pause of the machine ends no
// wait. One thread calls Send, one (it may be another) AwaitDone; Close may be called from any.
class LeaderChannel {
 public:
  virtual ~LeaderChannel() = default;
  virtual int num_followers() const = 0;
  // Returns when the channel holds the message; waits at most `patience` while the slowest
  // follower is so far behind that there is no room (kDeadlineExceeded). kOutOfRange when the
  // message is longer than kMaxMessageBytes, kCancelled after Close.
  virtual absl::Status Send(uint64_t number, std::string_view message, absl::Duration patience) = 0;
  // The mark of step `number` of a follower (from 0: rank - 1). kDeadlineExceeded, kCancelled as
  // above; kDataLoss when its mark was overwritten by a later one.
  virtual absl::StatusOr<DoneMark> AwaitDone(int follower, uint64_t number,
                                             absl::Duration patience) = 0;
  // Every wait on both sides ends with kCancelled. What was sent may be lost.
  virtual void Close() = 0;
};

// The same channel as one follower sees it. One thread.
class FollowerChannel {
 public:
  virtual ~FollowerChannel() = default;
  // Waits for the next message, without end. kCancelled when the channel is closed, kDataLoss when
  // what arrived is damaged.
  virtual absl::StatusOr<std::string> Receive() = 0;
  // Never waits.
  virtual void Report(const DoneMark& mark) = 0;
};

}  // namespace conclave::worker
