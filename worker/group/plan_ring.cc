#include "worker/group/plan_ring.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace conclave::worker {
namespace {

constexpr uint32_t kMagic = 0x4e414c50;  // "PLAN"

// FNV-1a over the piece: finds a torn record, not an attacker.
uint64_t Checksum(std::string_view bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (char byte : bytes) hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001b3;
  return hash;
}

}  // namespace

struct PlanRing::Head {
  uint32_t magic = kMagic;
  uint32_t piece_bytes = 0;
  uint64_t number = 0;
  uint32_t part = 0;
  uint32_t last = 0;
  uint64_t checksum = 0;
};

PlanRing::PlanRing(RingMarks& marks, std::span<std::byte> bytes) : marks_(marks), bytes_(bytes) {
  static_assert(sizeof(Head) == kRecordBytes);
  CHECK(bytes.size() >= 4096 && bytes.size() % 64 == 0);
}

// Records begin on multiples of 8.
size_t PlanRing::RecordBytes(size_t piece_bytes) {
  return kRecordBytes + (piece_bytes + 7) / 8 * 8;
}

bool PlanRing::HasRoom(size_t piece_bytes, uint64_t slowest_reader) const {
  return written() + RecordBytes(piece_bytes) <= slowest_reader + bytes_.size();
}

void PlanRing::CopyIn(uint64_t position, const void* from, size_t size) {
  if (size == 0) return;
  const size_t at = position % bytes_.size();
  const size_t first = std::min(size, bytes_.size() - at);
  std::memcpy(bytes_.data() + at, from, first);
  std::memcpy(bytes_.data(), static_cast<const std::byte*>(from) + first, size - first);
}

void PlanRing::CopyOut(uint64_t position, void* to, size_t size) const {
  if (size == 0) return;
  const size_t at = position % bytes_.size();
  const size_t first = std::min(size, bytes_.size() - at);
  std::memcpy(to, bytes_.data() + at, first);
  std::memcpy(static_cast<std::byte*>(to) + first, bytes_.data(), size - first);
}

void PlanRing::Append(uint64_t number, uint32_t part, bool last, std::string_view piece) {
  CHECK(piece.size() <= max_piece_bytes());
  const uint64_t begin = marks_.written.load(std::memory_order_relaxed);
  const uint64_t end = begin + RecordBytes(piece.size());
  uint64_t oldest = marks_.oldest.load(std::memory_order_relaxed);
  while (oldest + bytes_.size() < end) {
    Head head;
    CopyOut(oldest, &head, sizeof(head));
    CHECK(head.magic == kMagic);
    oldest += RecordBytes(head.piece_bytes);
  }
  marks_.oldest.store(oldest, std::memory_order_release);
  const Head head{.piece_bytes = static_cast<uint32_t>(piece.size()),
                  .number = number,
                  .part = part,
                  .last = last ? 1u : 0u,
                  .checksum = Checksum(piece)};
  CopyIn(begin, &head, sizeof(head));
  CopyIn(begin + sizeof(head), piece.data(), piece.size());
  marks_.written.store(end, std::memory_order_release);
}

absl::StatusOr<std::optional<PlanRing::Piece>> PlanRing::Read(uint64_t& position) const {
  const uint64_t written = this->written();
  if (position == written) return std::optional<Piece>();
  if (position > written || written - position > bytes_.size() ||
      written - position < kRecordBytes) {
    return DataLoss("ring was read up to {}, but written up to {}", position, written);
  }
  Head head;
  CopyOut(position, &head, sizeof(head));
  if (head.magic != kMagic || head.piece_bytes > max_piece_bytes() ||
      position + RecordBytes(head.piece_bytes) > written) {
    return DataLoss("ring holds no record at {}", position);
  }
  Piece piece{.number = head.number, .part = head.part, .last = head.last != 0, .bytes = {}};
  piece.bytes.resize(head.piece_bytes);
  CopyOut(position + sizeof(head), piece.bytes.data(), piece.bytes.size());
  if (Checksum(piece.bytes) != head.checksum) {
    return DataLoss("ring's record at {} is damaged", position);
  }
  position += RecordBytes(head.piece_bytes);
  return std::optional<Piece>(std::move(piece));
}

std::vector<RingMessage> PlanRing::History() const {
  std::vector<RingMessage> messages;
  RingMessage message;
  uint32_t next_part = 0;
  uint64_t position = marks_.oldest.load(std::memory_order_acquire);
  while (true) {
    auto piece = Read(position);
    if (!piece.ok() || !piece->has_value()) return messages;
    // A message whose first part is overwritten already is passed over.
    if ((*piece)->part == 0) {
      message = {.number = (*piece)->number, .bytes = {}};
      next_part = 0;
    }
    if ((*piece)->part != next_part || (*piece)->number != message.number) continue;
    ++next_part;
    message.bytes += (*piece)->bytes;
    if ((*piece)->last) messages.push_back(std::exchange(message, {}));
  }
}

}  // namespace conclave::worker
