#include "worker/launch/likeness.h"

#include <string>

#include "common/status.h"

namespace conclave::worker {

absl::Status CheckRanksAreAlike(const GroupMemory& memory) {
  const std::string own = TextOf(memory.cell(0).identity);
  for (int rank = 1; rank < memory.tp(); ++rank) {
    const std::string other = TextOf(memory.cell(rank).identity);
    if (other == own) continue;
    return FailedPrecondition("rank {} computes with {}; rank 0 with {}", rank, other, own);
  }
  return absl::OkStatus();
}

}  // namespace conclave::worker
