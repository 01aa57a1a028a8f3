#include "worker/launch/flight_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "worker/group/bytes.h"

namespace conclave::worker {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMagic1 = 0x31544847494c46;  // "FLIGHT1": ends after the plans.
constexpr uint64_t kMagic2 = 0x32544847494c46;  // "FLIGHT2"
constexpr std::string_view kPrefix = "flight-", kSuffix = ".plans", kDraft = ".draft";
constexpr size_t kMinPlan = 2, kMinRank = 6;  // The fewest bytes that one takes.
constexpr uintmax_t kMaxFileBytes = uintmax_t{2} << 30;
constexpr size_t kMaxPlans = (size_t{1} << 30) / 32;  // The greatest ring holds no more.

absl::Status WriteFile(const std::string& path, std::string_view bytes) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return FailedPrecondition("cannot make {}: {}", path, std::strerror(errno));
  absl::Status status;
  while (!bytes.empty() && status.ok()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written > 0) {
      bytes.remove_prefix(static_cast<size_t>(written));
    } else if (errno != EINTR) {
      status = ResourceExhausted("cannot write {}: {}", path, std::strerror(errno));
    }
  }
  close(fd);
  return status;
}

// Names begin with the time, so that their order is their age.
void RemoveOldest(const std::string& directory, int max_files) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with(kPrefix)) continue;
    if (name.ends_with(kSuffix)) files.push_back(it->path());
    // Of a launcher that died while it wrote.
    if (name.ends_with(std::string(kSuffix) + std::string(kDraft))) fs::remove(it->path(), error);
  }
  std::sort(files.begin(), files.end());
  for (size_t i = 0; i + static_cast<size_t>(max_files) < files.size(); ++i) {
    fs::remove(files[i], error);
  }
}

// FNV-1a: finds damage, not an attacker.
uint64_t Checksum(std::string_view bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (char byte : bytes) hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001b3;
  return hash;
}

RankFlight RecordRank(const RankCell& cell) {
  RankFlight rank{.ready = cell.ready.load() != 0,
                  .step_begun = cell.step_begun.load(),
                  .step_done = cell.step_done.load(),
                  .last_words = TextOf(cell.last_words),
                  .hashes = {}};
  // It may have died between the hash of the next step and its number: that entry is not read.
  const uint64_t kept = std::min<uint64_t>(rank.step_done, cell.step_hashes.size() - 1);
  rank.first_hash = rank.step_done - kept + 1;
  for (uint64_t step = rank.first_hash; step <= rank.step_done; ++step) {
    rank.hashes.push_back(cell.step_hashes[step % cell.step_hashes.size()].load());
  }
  return rank;
}

RankFlight TakeRank(ByteReader& in) {
  RankFlight rank;
  rank.ready = in.Byte() != 0;
  rank.step_begun = in.Unsigned();
  rank.step_done = in.Unsigned();
  rank.last_words = in.Text();
  rank.first_hash = in.Unsigned();
  const size_t num_hashes = in.Count(8);
  for (size_t i = 0; i < num_hashes; ++i) rank.hashes.push_back(in.Fixed(8));
  return rank;
}

}  // namespace

std::string IdentityOf(const GroupShape& shape) {
  std::string pools;
  for (const KvPoolShape& pool : shape.pools) pools += fmt::format(" {}", pool.num_blocks);
  return fmt::format(
      "{} ranks, weights {:.16}, {}, vocabulary {}, {} slots, {} rows, {} samples, blocks{}",
      shape.tp, shape.weights_hash, shape.numerics, shape.vocab_size, shape.max_slots,
      shape.max_rows, shape.max_samples, pools);
}

Flight RecordFlight(const GroupMemory& memory, const std::string& loss) {
  Flight flight;
  flight.account = fmt::format("epoch {}: {}\n", memory.epoch(), loss);
  for (int rank = 0; rank < memory.tp(); ++rank) {
    const RankCell& cell = memory.cell(rank);
    flight.account += fmt::format(
        "rank {}: ready {}, beat {}, step begun {} (at {} ns, deadline {} ns), done {} (hash "
        "{:016x}), engine turns {}, service turns {}\n",
        rank, cell.ready.load(), cell.beat.load(), cell.step_begun.load(),
        cell.step_begun_ns.load(), cell.step_deadline_ns.load(), cell.step_done.load(),
        cell.step_hash.load(), cell.engine_turns.load(), cell.service_turns.load());
    flight.ranks.push_back(RecordRank(cell));
    if (flight.identity.empty()) flight.identity = TextOf(cell.identity);
  }
  flight.plans = PlanRing(memory.header().ring, memory.ring()).History();
  return flight;
}

std::string EncodeFlight(const Flight& flight) {
  ByteWriter out;
  out.Fixed(kMagic2, 8);
  out.Text(flight.account);
  out.Unsigned(flight.plans.size());
  for (const RingMessage& plan : flight.plans) {
    out.Unsigned(plan.number);
    out.Text(plan.bytes);
  }
  out.Text(flight.identity);
  out.Unsigned(flight.ranks.size());
  for (const RankFlight& rank : flight.ranks) {
    out.Byte(rank.ready ? 1 : 0);
    out.Unsigned(rank.step_begun);
    out.Unsigned(rank.step_done);
    out.Text(rank.last_words);
    out.Unsigned(rank.first_hash);
    out.Unsigned(rank.hashes.size());
    for (const uint64_t hash : rank.hashes) out.Fixed(hash, 8);
  }
  std::string bytes = out.Take();
  ByteWriter checksum;
  checksum.Fixed(Checksum(bytes), 8);
  return bytes + checksum.Take();
}

absl::StatusOr<Flight> DecodeFlight(std::string_view bytes) {
  ByteReader head(bytes);
  const uint64_t magic = head.Fixed(8);
  if (magic == kMagic2) {
    if (bytes.size() < 16) return InvalidArgument("flight ends after {} bytes", bytes.size());
    ByteReader tail(bytes.substr(bytes.size() - 8));
    bytes.remove_suffix(8);
    if (tail.Fixed(8) != Checksum(bytes)) {
      return InvalidArgument("flight is damaged or cut off: its checksum is another");
    }
  } else if (magic != kMagic1) {
    return InvalidArgument("these bytes are no flight");
  }
  ByteReader in(bytes);
  in.Fixed(8);
  Flight flight;
  flight.account = in.Text();
  const size_t num_plans = in.Count(kMinPlan);
  if (num_plans > kMaxPlans) in.Fail("holds more plans than a ring may have");
  for (size_t i = 0; i < num_plans && in.status().ok(); ++i) {
    const uint64_t number = in.Unsigned();
    flight.plans.push_back({.number = number, .bytes = in.Text()});
  }
  if (magic == kMagic2) {
    flight.identity = in.Text();
    const size_t num_ranks = in.Count(kMinRank);
    if (num_ranks > kMaxRanks) in.Fail("holds more ranks than a group may have");
    for (size_t i = 0; i < num_ranks && in.status().ok(); ++i) flight.ranks.push_back(TakeRank(in));
  }
  in.End();
  RETURN_IF_ERROR(in.status());
  return flight;
}

absl::StatusOr<std::string> WriteFlight(const std::string& directory, int max_files, uint64_t epoch,
                                        const Flight& flight) {
  CHECK(max_files >= 1);
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) return FailedPrecondition("cannot make {}: {}", directory, error.message());
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  const std::string path = fmt::format("{}/{}{:012}{:09}-epoch-{}{}", directory, kPrefix,
                                       now.tv_sec, now.tv_nsec, epoch, kSuffix);
  const std::string draft = path + std::string(kDraft);
  absl::Status written = WriteFile(draft, EncodeFlight(flight));
  if (written.ok() && std::rename(draft.c_str(), path.c_str()) != 0) {
    written = FailedPrecondition("cannot name {}: {}", path, std::strerror(errno));
  }
  if (!written.ok()) {
    std::remove(draft.c_str());
    return written;
  }
  RemoveOldest(directory, max_files);
  return path;
}

absl::StatusOr<Flight> ReadFlight(const std::string& path) {
  std::error_code error;
  const uintmax_t size = fs::file_size(path, error);
  if (error) return NotFound("cannot read {}: {}", path, error.message());
  if (size > kMaxFileBytes) {
    return InvalidArgument("{} has {} bytes; the limit is {}", path, size, kMaxFileBytes);
  }
  std::ifstream file(path, std::ios::binary);
  std::string bytes(size, '\0');
  file.read(bytes.data(), static_cast<std::streamsize>(size));
  if (!file) return InvalidArgument("cannot read {} bytes of {}", size, path);
  absl::StatusOr<Flight> flight = DecodeFlight(bytes);
  if (!flight.ok()) return Annotate(flight.status(), path);
  return flight;
}

absl::StatusOr<TimedPlan> DecodeRecorded(const RingMessage& message) {
  absl::StatusOr<TimedPlan> timed = DecodePlan(message.bytes);
  if (!timed.ok()) return Annotate(timed.status(), fmt::format("plan {}", message.number));
  if (timed->plan.number != message.number) {
    return InvalidArgument("plan {} calls itself {}", message.number, timed->plan.number);
  }
  return timed;
}

}  // namespace conclave::worker
