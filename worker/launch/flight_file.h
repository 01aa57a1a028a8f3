#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "worker/group/group_memory.h"
#include "worker/group/plan_codec.h"
#include "worker/group/plan_ring.h"
#include "worker/step.h"

namespace conclave::worker {

// What one rank said last.
struct RankFlight {
  bool ready = false;
  uint64_t step_begun = 0, step_done = 0;  // It was in a step while they differ.
  std::string last_words;                  // Empty when it said none.
  // What it reported of the steps first_hash, first_hash + 1, ... step_done.
  uint64_t first_hash = 1;
  std::vector<uint64_t> hashes;

  std::optional<uint64_t> HashOf(uint64_t step) const {
    if (step < first_hash || step - first_hash >= hashes.size()) return std::nullopt;
    return hashes[step - first_hash];
  }
};

// What a dead group left behind: for whoever asks what it was doing, and to be run again.
struct Flight {
  std::string account;             // Lines of text: the loss, then what each rank said last.
  std::vector<RingMessage> plans;  // The last plans as plan_codec wrote them, oldest first.
  std::string identity;            // Of the ranks: see IdentityOf. Empty when none was ready.
  std::vector<RankFlight> ranks;   // Empty in a file of the first format.
};

// What must be equal for plans to mean the same steps with the same hashes: ranks, weights,
// arithmetic, and the sizes that plans are made for. One line.
std::string IdentityOf(const GroupShape& shape);

// Reads a group's memory. REQUIRES: its ranks have ended.
Flight RecordFlight(const GroupMemory& memory, const std::string& loss);

// Writes `flight` as a new file into `directory` (made when missing), and removes the oldest such
// files beyond `max_files` (at least 1). Returns the file's path. The plans hold what callers
// wrote, as token ids: files are readable by their owner only. Nobody sees half a file.
absl::StatusOr<std::string> WriteFlight(const std::string& directory, int max_files, uint64_t epoch,
                                        const Flight& flight);

// Reads any file: kInvalidArgument says what is wrong with one that is cut off, damaged, or no
// flight at all. Memory is bounded by a constant times the file's size, at most 2 GB.
absl::StatusOr<Flight> ReadFlight(const std::string& path);

// The same in memory.
std::string EncodeFlight(const Flight& flight);
absl::StatusOr<Flight> DecodeFlight(std::string_view bytes);

// A recorded plan. kInvalidArgument names it and what is wrong.
absl::StatusOr<TimedPlan> DecodeRecorded(const RingMessage& message);

}  // namespace conclave::worker
