#pragma once

#include <absl/status/statusor.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace conclave::worker {

// Positions count bytes since the ring's beginning; they never wrap. Lies in shared memory.
struct RingMarks {
  alignas(64) std::atomic<uint64_t> written{0};
  std::atomic<uint64_t> oldest{0};  // Of the first record that is not overwritten yet.
};

// A whole message as it lies in the ring.
struct RingMessage {
  uint64_t number = 0;
  std::string bytes;
};

// One writer's messages in a ring of shared memory, cut into records that carry number, part and
// checksum. What was read stays until it is overwritten, and `oldest` is moved before that: so the
// ring is a flight recorder, readable after its writer died at any instruction. One thread writes;
// each reader keeps its own position. `marks` and `bytes` must outlive it; size a multiple of 64,
// at least 4,096.
class PlanRing {
 public:
  PlanRing(RingMarks& marks, std::span<std::byte> bytes);

  // The longest piece that one record carries.
  size_t max_piece_bytes() const { return bytes_.size() / 4 - kRecordBytes; }

  // Whether a record with this piece overwrites nothing that the slowest reader still needs.
  bool HasRoom(size_t piece_bytes, uint64_t slowest_reader) const;

  struct Piece {
    uint64_t number = 0;
    uint32_t part = 0;  // From 0.
    bool last = false;
    std::string bytes;
  };
  // Writer only. REQUIRES: at most max_piece_bytes, and HasRoom.
  void Append(uint64_t number, uint32_t part, bool last, std::string_view piece);

  // The record at `position`, which then moves behind it; nullopt when nothing more is written.
  // kDataLoss when there is no record.
  absl::StatusOr<std::optional<Piece>> Read(uint64_t& position) const;

  // Whole messages that are still there, oldest first. For a ring whose writer has ended.
  std::vector<RingMessage> History() const;

  uint64_t written() const { return marks_.written.load(std::memory_order_acquire); }

 private:
  static constexpr size_t kRecordBytes = 32;  // A record's head.
  struct Head;
  static size_t RecordBytes(size_t piece_bytes);
  void CopyIn(uint64_t position, const void* from, size_t size);
  void CopyOut(uint64_t position, void* to, size_t size) const;

  RingMarks& marks_;
  std::span<std::byte> bytes_;
};

}  // namespace conclave::worker
