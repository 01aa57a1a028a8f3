#include "worker/group/group_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace conclave::worker {
namespace {

constexpr uint64_t kMagic = 0x3156414c434e4f43;  // "CONCLAV1"
constexpr uint32_t kVersion = 5;                 // Of everything in the region.
constexpr size_t kPage = 4096;
constexpr size_t kMinRing = 4096, kMaxRing = size_t{1} << 30;
constexpr size_t kMaxCollective = size_t{64} << 30;

size_t Pages(size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

// Where the parts of a region begin: header, cells, ring, collective.
struct Layout {
  Layout(int tp, size_t ring_bytes, size_t collective_bytes)
      : cells(Pages(sizeof(GroupHeader))),
        ring(cells + Pages(static_cast<size_t>(tp) * sizeof(RankCell))),
        collective(ring + Pages(ring_bytes)),
        total(collective + Pages(collective_bytes)) {}

  size_t cells, ring, collective, total;
};

absl::Status CheckOptions(const GroupMemoryOptions& options) {
  if (options.tp < 1 || options.tp > kMaxRanks) {
    return InvalidArgument("group of {} ranks; the limit is {}", options.tp, kMaxRanks);
  }
  if (options.ring_bytes < kMinRing || options.ring_bytes > kMaxRing ||
      options.ring_bytes % 64 != 0) {
    return InvalidArgument("ring of {} bytes; it must be a multiple of 64 between {} and {}",
                           options.ring_bytes, kMinRing, kMaxRing);
  }
  if (options.collective_bytes > kMaxCollective) {
    return InvalidArgument("collective's region of {} bytes; the limit is {}",
                           options.collective_bytes, kMaxCollective);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::byte*> Map(int fd, size_t size) {
  void* bytes = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (bytes == MAP_FAILED) {
    return ResourceExhausted("cannot map {} bytes of group memory: {}", size, std::strerror(errno));
  }
  return static_cast<std::byte*>(bytes);
}

// Whether the header says what the attaching rank was told.
absl::Status CheckHeader(const GroupHeader& header, size_t size, int tp, uint64_t epoch) {
  if (header.magic != kMagic) return FailedPrecondition("descriptor holds no group memory");
  if (header.version != kVersion) {
    return FailedPrecondition("group memory has version {}, this program {}", header.version,
                              kVersion);
  }
  if (header.tp != tp || header.epoch != epoch) {
    return FailedPrecondition("group memory is of {} ranks and epoch {}; expected {} and {}",
                              header.tp, header.epoch, tp, epoch);
  }
  const Layout layout(tp, header.ring_bytes, header.collective_bytes);
  if (header.total_bytes != size || layout.total != size) {
    return FailedPrecondition("group memory has {} bytes, its header says {}", size,
                              header.total_bytes);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<GroupMemory> GroupMemory::Create(const GroupMemoryOptions& options) {
  RETURN_IF_ERROR(CheckOptions(options));
  const Layout layout(options.tp, options.ring_bytes, options.collective_bytes);
  const int fd = memfd_create("conclave-group", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return ResourceExhausted("cannot make group memory: {}", std::strerror(errno));
  GroupMemory memory(nullptr, layout.total, fd);
  // Sealed, so that no rank can make another's access fault by shrinking it.
  if (ftruncate(fd, static_cast<off_t>(layout.total)) != 0 ||
      fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return ResourceExhausted("cannot make {} bytes of group memory: {}", layout.total,
                             std::strerror(errno));
  }
  ASSIGN_OR_RETURN(memory.bytes_, Map(fd, layout.total));
  auto* header = new (memory.bytes_) GroupHeader;
  header->magic = kMagic;
  header->version = kVersion;
  header->tp = options.tp;
  header->epoch = options.epoch;
  header->nonce = options.nonce;
  header->total_bytes = layout.total;
  header->ring_bytes = options.ring_bytes;
  header->collective_bytes = options.collective_bytes;
  header->losses = options.losses;
  const size_t loss = std::min(options.last_loss.size(), header->last_loss.size() - 1);
  std::copy_n(options.last_loss.begin(), loss, header->last_loss.begin());
  for (int rank = 0; rank < options.tp; ++rank) {
    new (memory.bytes_ + layout.cells + static_cast<size_t>(rank) * sizeof(RankCell)) RankCell;
  }
  return memory;
}

absl::StatusOr<GroupMemory> GroupMemory::Attach(int fd, int tp, uint64_t epoch) {
  struct stat file {};
  const bool known = fstat(fd, &file) == 0;
  const auto size = static_cast<size_t>(file.st_size);
  if (!known || size < sizeof(GroupHeader) || tp < 1 || tp > kMaxRanks) {
    if (known) close(fd);
    return FailedPrecondition("descriptor {} holds no group memory", fd);
  }
  absl::StatusOr<std::byte*> bytes = Map(fd, size);
  close(fd);
  RETURN_IF_ERROR(bytes.status());
  GroupMemory memory(*bytes, size, -1);
  const GroupHeader& header = memory.header();
  if (header.ring_bytes < kMinRing || header.ring_bytes > kMaxRing || header.ring_bytes % 64 != 0 ||
      header.collective_bytes > kMaxCollective) {
    return FailedPrecondition("descriptor {} holds no group memory", fd);
  }
  RETURN_IF_ERROR(CheckHeader(header, size, tp, epoch));
  return memory;
}

GroupMemory::GroupMemory(GroupMemory&& other) noexcept
    : bytes_(std::exchange(other.bytes_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      fd_(std::exchange(other.fd_, -1)) {}

GroupMemory& GroupMemory::operator=(GroupMemory&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  std::swap(size_, other.size_);
  std::swap(fd_, other.fd_);
  return *this;
}

GroupMemory::~GroupMemory() {
  if (bytes_ != nullptr) munmap(bytes_, size_);
  if (fd_ >= 0) close(fd_);
}

GroupHeader& GroupMemory::header() const { return *reinterpret_cast<GroupHeader*>(bytes_); }

RankCell& GroupMemory::cell(int rank) const {
  CHECK(rank >= 0 && rank < tp());
  const Layout layout(tp(), header().ring_bytes, header().collective_bytes);
  return reinterpret_cast<RankCell*>(bytes_ + layout.cells)[rank];
}

std::span<std::byte> GroupMemory::ring() const {
  const Layout layout(tp(), header().ring_bytes, header().collective_bytes);
  return {bytes_ + layout.ring, header().ring_bytes};
}

std::span<std::byte> GroupMemory::collective() const {
  const Layout layout(tp(), header().ring_bytes, header().collective_bytes);
  return {bytes_ + layout.collective, header().collective_bytes};
}

}  // namespace conclave::worker
