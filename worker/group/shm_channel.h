#pragma once

#include "worker/group/control_channel.h"
#include "worker/group/group_memory.h"

namespace conclave::worker {

// The channel between the processes of one host: the ring in the group's memory, which must outlive
// it. A message longer than a record of the ring travels in several.
class ShmLeaderChannel : public LeaderChannel {
 public:
  explicit ShmLeaderChannel(GroupMemory& memory);

  int num_followers() const override;
  absl::Status Send(uint64_t number, std::string_view message, absl::Duration patience) override;
  absl::StatusOr<DoneMark> AwaitDone(int follower, uint64_t number,
                                     absl::Duration patience) override;
  void Close() override;

 private:
  uint64_t SlowestReader() const;

  GroupMemory& memory_;
  PlanRing ring_;
};

class ShmFollowerChannel : public FollowerChannel {
 public:
  // REQUIRES: 1 <= rank < tp.
  ShmFollowerChannel(GroupMemory& memory, int rank);

  absl::StatusOr<std::string> Receive() override;
  void Report(const DoneMark& mark) override;

 private:
  absl::StatusOr<PlanRing::Piece> NextPiece();

  GroupMemory& memory_;
  RankCell& cell_;
  PlanRing ring_;
};

}  // namespace conclave::worker
