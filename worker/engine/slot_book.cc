#include "worker/engine/slot_book.h"

#include <utility>

#include "common/check.h"

namespace conclave::worker {
namespace {

bool HasPenalty(const Sampling& sampling) {
  return sampling.repetition_penalty != 1 || sampling.presence_penalty != 0 ||
         sampling.frequency_penalty != 0;
}

SlotChange Change(SlotChange::Kind kind, SlotId slot) {
  SlotChange change;
  change.kind = kind;
  change.slot = slot;
  return change;
}

}  // namespace

SlotBook::SlotBook(const GroupShape& shape) : num_pools_(shape.pools.size()) {
  for (SlotId slot = shape.max_slots - 1; slot >= 0; --slot) free_.push_back(slot);
}

void SlotBook::Bring(Sequence& sequence) {
  if (sequence.slot < 0) {
    CHECK(!free_.empty());
    sequence.slot = free_.back();
    free_.pop_back();
    SlotChange open = Change(SlotChange::Kind::kOpen, sequence.slot);
    open.seed = sequence.origin.seed;
    open.agent = sequence.id;
    open.sampling = sequence.sampling;
    open.rules = sequence.rules;
    if (HasPenalty(sequence.sampling)) open.history = sequence.tokens.all();
    open.position = sequence.tokens.prompt_length();
    AppendBlocks(sequence, open);
    changes_.push_back(std::move(open));
  } else {
    if (sequence.truncate) {
      SlotChange cut = Change(SlotChange::Kind::kTruncate, sequence.slot);
      cut.position = sequence.computed;
      changes_.push_back(std::move(cut));
      CHECK(sequence.blocks_sent == BlocksFor(sequence.computed));
    }
    if (sequence.table.size() > sequence.blocks_sent) {
      SlotChange append = Change(SlotChange::Kind::kAppend, sequence.slot);
      AppendBlocks(sequence, append);
      changes_.push_back(std::move(append));
    }
  }
  sequence.truncate = false;
}

void SlotBook::AppendBlocks(Sequence& sequence, SlotChange& change) {
  std::vector<BlockId> blocks;
  for (int i = sequence.blocks_sent; i < sequence.table.size(); ++i) {
    blocks.push_back(sequence.table[i]);
  }
  sequence.blocks_sent = sequence.table.size();
  change.blocks.assign(num_pools_, blocks);
}

void SlotBook::Close(Sequence& sequence) {
  if (sequence.slot < 0) return;
  changes_.push_back(Change(SlotChange::Kind::kClose, sequence.slot));
  free_.push_back(sequence.slot);
  sequence.slot = -1;
  sequence.blocks_sent = 0;
}

}  // namespace conclave::worker
