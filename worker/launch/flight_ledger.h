#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "worker/step.h"

namespace conclave::worker {

// Which values of a recorded course of plans can be computed again. A record that lost its
// beginning may name slots that were opened before it, and blocks whose KV was written before it:
// what rests on them is unknown, everything else is exact, since no bit of a row depends on its
// neighbours. Pure bookkeeping; plans may hold anything.
class FlightLedger {
 public:
  explicit FlightLedger(const GroupShape& shape);

  struct Entry {
    StepPlan plan;    // What can be run: without slots that were opened before the record.
    int samples = 0;  // That the whole plan asks for.
    int known = 0;    // Of those: drawn as they were drawn then.
    bool exact() const { return known == samples; }
  };
  // The next plan of the record, in order.
  Entry Take(const StepPlan& plan);

 private:
  struct Slot {
    std::vector<BlockId> blocks;
    bool last_sample_known = false;
    bool history_known = true;  // Penalties rest on it.
  };
  void Change(const SlotChange& change);
  bool TokenKnown(const Row& row) const;
  bool AttendsToUnknown(const Row& row) const;
  uint16_t* MaskOf(BlockId block);
  void Mark(const Row& row, bool known);

  const int max_slots_;
  std::vector<uint16_t> known_;  // For each block, one bit a position.
  std::unordered_map<SlotId, Slot> slots_;
};

}  // namespace conclave::worker
