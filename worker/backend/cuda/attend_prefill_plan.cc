#include <algorithm>

#include "worker/backend/cuda/attend.h"
#include "worker/backend/cuda/shared_memory.h"

namespace conclave::worker::cuda {

int PrefillTileRows() {
  return MostShared() >= kSharedOfWholeTiles ? kPrefillTile : kPrefillTile / 2;
}

std::vector<PrefillTile> PlanPrefill(const std::vector<Run>& runs, int prompt_rows, int tile_rows) {
  struct Planned {
    PrefillTile tile;
    int32_t last_position;
  };
  std::vector<Planned> planned;
  for (const Run& run : runs) {
    if (run.first_row >= prompt_rows) break;
    for (int32_t at = 0; at < run.rows; at += tile_rows) {
      const int32_t rows = std::min(tile_rows, run.rows - at);
      planned.push_back({{run.first_row + at, rows}, run.position + at + rows - 1});
    }
  }
  // The longest tiles start first, so that the device's last ones are short.
  std::stable_sort(planned.begin(), planned.end(), [](const Planned& a, const Planned& b) {
    return a.last_position > b.last_position;
  });
  std::vector<PrefillTile> tiles;
  tiles.reserve(planned.size());
  for (const Planned& p : planned) tiles.push_back(p.tile);
  return tiles;
}

}  // namespace conclave::worker::cuda
