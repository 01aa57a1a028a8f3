#include "worker/launch/flight_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "worker/group/bytes.h"

namespace conclave::worker {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMagic = 0x31544847494c46;  // "FLIGHT1"
constexpr std::string_view kPrefix = "flight-", kSuffix = ".plans";
constexpr uintmax_t kMaxFileBytes = uintmax_t{2} << 30;

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
    if (name.starts_with(kPrefix) && name.ends_with(kSuffix)) files.push_back(it->path());
  }
  std::sort(files.begin(), files.end());
  for (size_t i = 0; i + static_cast<size_t>(max_files) < files.size(); ++i) {
    fs::remove(files[i], error);
  }
}

}  // namespace

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
  }
  flight.plans = PlanRing(memory.header().ring, memory.ring()).History();
  return flight;
}

absl::StatusOr<std::string> WriteFlight(const std::string& directory, int max_files, uint64_t epoch,
                                        const Flight& flight) {
  CHECK(max_files >= 1);
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) return FailedPrecondition("cannot make {}: {}", directory, error.message());
  ByteWriter out;
  out.Fixed(kMagic, 8);
  out.Text(flight.account);
  out.Unsigned(flight.plans.size());
  for (const RingMessage& plan : flight.plans) {
    out.Unsigned(plan.number);
    out.Text(plan.bytes);
  }
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  const std::string path = fmt::format("{}/{}{:012}{:09}-epoch-{}{}", directory, kPrefix,
                                       now.tv_sec, now.tv_nsec, epoch, kSuffix);
  RETURN_IF_ERROR(WriteFile(path, out.Take()));
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
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  ByteReader in(bytes);
  if (in.Fixed(8) != kMagic) in.Fail("is not of a flight");
  Flight flight;
  flight.account = in.Text();
  const size_t num_plans = in.Count(2);
  for (size_t i = 0; i < num_plans && in.status().ok(); ++i) {
    const uint64_t number = in.Unsigned();
    flight.plans.push_back({.number = number, .bytes = in.Text()});
  }
  in.End();
  if (!in.status().ok()) return Annotate(in.status(), path);
  return flight;
}

}  // namespace conclave::worker
