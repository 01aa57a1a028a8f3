#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <vector>

#include "worker/group/group_memory.h"
#include "worker/group/plan_ring.h"

namespace conclave::worker {

// What a dead group left behind: for whoever asks what it was doing.
struct Flight {
  std::string account;             // Lines of text: the loss, then what each rank said last.
  std::vector<RingMessage> plans;  // The last plans as plan_codec wrote them, oldest first.
};

// Reads a group's memory. REQUIRES: its ranks have ended.
Flight RecordFlight(const GroupMemory& memory, const std::string& loss);

// Writes `flight` as a new file into `directory` (made when missing), and removes the oldest such
// files beyond `max_files` (at least 1). Returns the file's path. The plans hold what callers
// wrote, as token ids: files are readable by their owner only.
absl::StatusOr<std::string> WriteFlight(const std::string& directory, int max_files, uint64_t epoch,
                                        const Flight& flight);

absl::StatusOr<Flight> ReadFlight(const std::string& path);

}  // namespace conclave::worker
