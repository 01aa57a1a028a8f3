#pragma once

#include <utility>
#include <vector>

#include "worker/engine/sequence.h"
#include "worker/step.h"

namespace conclave::worker {

// Which sequence lives in which slot, and what the ranks have to be told about it. One thread.
class SlotBook {
 public:
  explicit SlotBook(const GroupShape& shape);

  // Makes the ranks know the sequence and all of its blocks, up to its computed positions. Opens a
  // slot if it has none. REQUIRES: at most max_slots sequences have one.
  void Bring(Sequence& sequence);

  // Gives the sequence's slot away, if it has one.
  void Close(Sequence& sequence);

  int free() const { return static_cast<int>(free_.size()); }

  // What the next plan has to carry, in order.
  std::vector<SlotChange> TakeChanges() { return std::exchange(changes_, {}); }

 private:
  void AppendBlocks(Sequence& sequence, SlotChange& change);

  const size_t num_pools_;
  std::vector<SlotId> free_;
  std::vector<SlotChange> changes_;
};

}  // namespace conclave::worker
