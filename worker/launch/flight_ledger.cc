#include "worker/launch/flight_ledger.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace conclave::worker {

static_assert(kBlockTokens == 16, "a block's positions are the bits of a uint16_t");

FlightLedger::FlightLedger(const GroupShape& shape)
    : max_slots_(shape.max_slots),
      known_(shape.pools.empty() ? 0
                                 : static_cast<size_t>(std::max(0, shape.pools[0].num_blocks))) {}

uint16_t* FlightLedger::MaskOf(BlockId block) {
  if (block < 0 || static_cast<size_t>(block) >= known_.size()) return nullptr;
  return &known_[static_cast<size_t>(block)];
}

void FlightLedger::Change(const SlotChange& change) {
  if (change.slot < 0 || change.slot >= max_slots_) return;
  if (change.kind == SlotChange::Kind::kClose) {
    slots_.erase(change.slot);
    return;
  }
  if (change.kind == SlotChange::Kind::kOpen) slots_[change.slot] = Slot{};
  const auto found = slots_.find(change.slot);
  if (found == slots_.end()) return;  // Opened before the record.
  std::vector<BlockId>& blocks = found->second.blocks;
  if (change.kind == SlotChange::Kind::kTruncate) {
    const int left = std::max(0, change.position) / kBlockTokens +
                     (std::max(0, change.position) % kBlockTokens != 0 ? 1 : 0);
    if (blocks.size() > static_cast<size_t>(left)) blocks.resize(static_cast<size_t>(left));
  } else if (!change.blocks.empty()) {
    blocks.insert(blocks.end(), change.blocks[0].begin(), change.blocks[0].end());
  }
}

bool FlightLedger::TokenKnown(const Row& row) const {
  return row.token != kPreviousSample || slots_.at(row.slot).last_sample_known;
}

// Itself included: its own mark is set before it is asked about.
bool FlightLedger::AttendsToUnknown(const Row& row) const {
  const std::vector<BlockId>& blocks = slots_.at(row.slot).blocks;
  for (int begin = 0; begin <= row.position; begin += kBlockTokens) {
    const auto at = static_cast<size_t>(begin / kBlockTokens);
    if (at >= blocks.size()) return true;
    const BlockId block = blocks[at];
    if (block < 0 || static_cast<size_t>(block) >= known_.size()) return true;
    const int positions = std::min(row.position - begin + 1, kBlockTokens);
    const unsigned needed = (1u << positions) - 1;
    if ((known_[static_cast<size_t>(block)] & needed) != needed) return true;
  }
  return false;
}

void FlightLedger::Mark(const Row& row, bool known) {
  const std::vector<BlockId>& blocks = slots_.at(row.slot).blocks;
  const auto at = static_cast<size_t>(row.position / kBlockTokens);
  uint16_t* mask = at < blocks.size() ? MaskOf(blocks[at]) : nullptr;
  if (mask == nullptr) return;
  const auto bit = static_cast<uint16_t>(1u << (row.position % kBlockTokens));
  *mask = static_cast<uint16_t>(known ? *mask | bit : *mask & ~bit);
}

FlightLedger::Entry FlightLedger::Take(const StepPlan& plan) {
  Entry entry;
  entry.plan.number = plan.number;
  entry.samples = static_cast<int>(plan.samples.size());
  for (const SlotChange& change : plan.slots) {
    const bool ours = change.kind == SlotChange::Kind::kOpen || slots_.contains(change.slot);
    Change(change);
    if (ours) entry.plan.slots.push_back(change);
  }
  for (const BlockCopy& copy : plan.copies) {
    const uint16_t* from = MaskOf(copy.from);
    uint16_t* to = MaskOf(copy.to);
    if (from != nullptr && to != nullptr && copy.tokens >= 0 && copy.tokens <= kBlockTokens) {
      const unsigned copied = (1u << copy.tokens) - 1;
      *to = static_cast<uint16_t>((*to & ~copied) | (*from & copied));
    }
    entry.plan.copies.push_back(copy);
  }

  std::vector<int> place(plan.rows.size(), -1);  // In the plan that can be run.
  std::vector<char> known;
  for (size_t i = 0; i < plan.rows.size(); ++i) {
    Row row = plan.rows[i];
    if (row.position < 0 || !slots_.contains(row.slot)) continue;
    place[i] = static_cast<int>(entry.plan.rows.size());
    known.push_back(TokenKnown(row) ? 1 : 0);
    if (known.back() == 0) {
      slots_.at(row.slot).history_known = false;
      row.token = 0;  // Any: what comes of it is not known anyway.
    }
    Mark(row, known.back() != 0);
    entry.plan.rows.push_back(row);
  }
  // Rows of one step may attend to each other: what is unknown spreads until nothing changes.
  for (bool spreads = true; spreads;) {
    spreads = false;
    for (size_t i = 0; i < known.size(); ++i) {
      const Row& row = entry.plan.rows[i];
      if (known[i] == 0 || !AttendsToUnknown(row)) continue;
      known[i] = 0;
      spreads = true;
      Mark(row, false);
    }
  }

  for (const SampleRequest& sample : plan.samples) {
    const auto slot = slots_.find(sample.slot);
    if (slot == slots_.end()) continue;
    const auto row = static_cast<size_t>(sample.row);
    const int at = sample.row >= 0 && row < place.size() ? place[row] : -1;
    const bool exact = at >= 0 && known[static_cast<size_t>(at)] != 0 && slot->second.history_known;
    slot->second.last_sample_known = exact;
    if (at < 0) continue;
    entry.plan.samples.push_back({.row = at, .slot = sample.slot, .index = sample.index});
    entry.known += exact ? 1 : 0;
  }
  return entry;
}

}  // namespace conclave::worker
