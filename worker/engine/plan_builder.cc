#include "worker/engine/plan_builder.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace conclave::worker {

PlanBuilder::PlanBuilder(uint64_t number, const PlanLimits& limits, KvCache& cache, SlotBook& slots,
                         EngineLoad& load, const std::vector<Sequence*>& order)
    : limits_(limits), cache_(cache), slots_(slots), load_(load), order_(order) {
  plan_.number = number;
}

void PlanBuilder::Run(Sequence& sequence) {
  const int known = sequence.tokens.size() + sequence.valid_in_flight();
  int rows = std::min(known - sequence.computed, rows_left());
  bool last = sequence.computed + rows == known;
  if (last && samples_left() == 0) {
    --rows;
    last = false;
  }
  if (rows <= 0 || !Reserve(sequence, sequence.computed + rows)) return;
  AddRows(sequence, rows);
  if (last) AddSample(sequence, static_cast<int>(plan_.rows.size()) - 1);
}

void PlanBuilder::Prefill(Sequence& sequence) {
  AttachPrefix(sequence);
  if (AttachTail(sequence) || rows_left() == 0) return;
  CopyPart(sequence);
  const int missing = sequence.tokens.size() - sequence.computed;
  int rows = std::min(missing, rows_left());
  bool last = rows == missing;
  if (last && samples_left() == 0) {
    --rows;
    last = false;
  }
  // Pieces end at a block's border where they can: only full blocks are shared.
  const int border = (sequence.computed + rows) / kBlockTokens * kBlockTokens;
  if (!last && border > sequence.computed) rows = border - sequence.computed;
  if (rows <= 0 || !Reserve(sequence, sequence.computed + rows)) return;
  AddRows(sequence, rows);
  if (!last) return;
  const int row = static_cast<int>(plan_.rows.size()) - 1;
  AddSample(sequence, row);
  tails_.emplace(sequence.WholeName(), Tail{row, sequence.table.back()});
}

// At least the last token is left: its row gives the logits.
void PlanBuilder::AttachPrefix(Sequence& sequence) {
  if (sequence.computed != sequence.table.size() * kBlockTokens) return;
  while (sequence.computed + kBlockTokens < sequence.tokens.size() &&
         cache_.Match(sequence.NameOf(sequence.table.size()), sequence.table)) {
    ++sequence.published;
    Reach(sequence, sequence.computed + kBlockTokens);
  }
}

bool PlanBuilder::AttachTail(Sequence& sequence) {
  const int known = sequence.tokens.size();
  const int last_block = (known - 1) / kBlockTokens;
  if (tails_.empty() || samples_left() == 0 || sequence.copy.has_value() ||
      sequence.computed < last_block * kBlockTokens) {
    return false;
  }
  const auto tail = tails_.find(sequence.WholeName());
  if (tail == tails_.end()) return false;
  if (known % kBlockTokens == 0) {
    // The block is full, so it is in the tree: written in this plan, read by this sequence from the
    // next one on.
    if (sequence.table.size() > last_block) return false;
    CHECK(cache_.Match(sequence.NameOf(last_block), sequence.table));
    ++sequence.published;
  } else {
    if (sequence.table.size() == last_block && !cache_.Grow(1, sequence.table)) return false;
    sequence.copy.emplace(Sequence::PendingCopy{BlockPin(cache_, tail->second.block),
                                                sequence.table.back(), known % kBlockTokens,
                                                plan_.number});
  }
  Reach(sequence, known);
  slots_.Bring(sequence);
  AddSample(sequence, tail->second.row);
  return true;
}

// Where the tree's blocks end, one of them may still start as this sequence goes on.
void PlanBuilder::CopyPart(Sequence& sequence) {
  if (sequence.computed != sequence.table.size() * kBlockTokens || sequence.copy.has_value()) {
    return;
  }
  // Source and target need room at once: only where it is plenty.
  if (cache_.available() <= sequence.BlocksWanted() - sequence.table.size() + 1) return;
  const int most = std::min(sequence.tokens.size() - 1 - sequence.computed, kBlockTokens);
  auto part = cache_.FindPart(sequence.NameBefore(sequence.table.size()),
                              sequence.Named().subspan(sequence.computed, most), plan_.number);
  if (!part.has_value() || !cache_.Grow(1, sequence.table)) return;
  const int tokens = part->tokens;
  sequence.copy.emplace(Sequence::PendingCopy{std::move(part->source), sequence.table.back(),
                                              tokens, plan_.number - 1});
  Reach(sequence, sequence.computed + tokens);
}

// Positions up to `computed` come without rows of the sequence's own.
void PlanBuilder::Reach(Sequence& sequence, int computed) {
  load_.prefix_hit_tokens += computed - sequence.computed;
  sequence.computed = computed;
  sequence.high_water = std::max(sequence.high_water, computed);
}

// Room for all positions below `positions`. False: there is none, and the sequence may have given
// away what it had.
bool PlanBuilder::Reserve(Sequence& sequence, int positions) {
  const int missing = BlocksFor(positions) - sequence.table.size();
  while (missing > 0 && !cache_.Grow(missing, sequence.table)) {
    Sequence& victim = LastBehind(sequence);
    // While others move, a prompt waits for its room where it is.
    if (&victim == &sequence && sequence.prefilling && !empty()) return false;
    TakeBack(victim, cache_, slots_, plan_.number);
    ++load_.preemptions;
    if (&victim == &sequence) return false;
  }
  return true;
}

Sequence& PlanBuilder::LastBehind(Sequence& sequence) {
  for (auto it = order_.rbegin(); *it != &sequence; ++it) {
    Sequence& other = **it;
    if (other.running && other.planned_in != plan_.number && other.table.size() > 0) return other;
  }
  return sequence;
}

void PlanBuilder::TakeBack(Sequence& sequence, KvCache& cache, SlotBook& slots, uint64_t step) {
  sequence.PublishFull(cache, step);
  sequence.copy.reset();
  sequence.table.Clear();
  slots.Close(sequence);
  sequence.running = false;
  sequence.prefilling = true;
  sequence.truncate = false;
  sequence.computed = 0;
  sequence.published = 0;
}

void PlanBuilder::AddRows(Sequence& sequence, int count) {
  slots_.Bring(sequence);
  for (int i = 0; i < count; ++i) {
    const int position = sequence.computed++;
    TokenId token = kPreviousSample;
    if (position < sequence.tokens.size()) {
      token = sequence.tokens.all()[position];
    } else {
      CHECK(sequence.sampled_in + 1 == plan_.number);
    }
    CountRow(sequence, position);
    plan_.rows.push_back({sequence.slot, position, token});
  }
  sequence.high_water = std::max(sequence.high_water, sequence.computed);
  sequence.planned_in = plan_.number;
  sequence.PublishFull(cache_, plan_.number);
}

void PlanBuilder::CountRow(const Sequence& sequence, int position) {
  FamilyCounters& counters = *sequence.origin.counters;
  const int prompt = sequence.tokens.prompt_length();
  if (position < sequence.high_water) {
    ++counters.recomputed;
  } else if (sequence.is_copy()) {
    counters.recomputed += position < prompt + sequence.at ? 1 : 0;
  } else if (position < prompt) {
    ++counters.prompt_computed;
    --counters.prompt_shared;
    ++load_.prompt_tokens_computed;
  } else if (position < prompt + static_cast<int>(sequence.produced.size())) {
    ++counters.recomputed;
  }
}

void PlanBuilder::AddSample(Sequence& sequence, int row) {
  const int index = sequence.tokens.count() + sequence.valid_in_flight();
  plan_.samples.push_back({row, sequence.slot, index});
  sampled_.push_back(sequence.origin.serial);
  ++sequence.in_flight;
  sequence.sampled_in = sequence.planned_in = plan_.number;
  sequence.prefilling = false;
}

StepPlan PlanBuilder::Finish(std::vector<uint64_t>& sampled) {
  for (Sequence* sequence : order_) {
    if (!sequence->copy.has_value() || sequence->copy->after >= plan_.number) continue;
    for (size_t pool = 0; pool < limits_.pools; ++pool) {
      plan_.copies.push_back({static_cast<int>(pool), sequence->copy->source.block(),
                              sequence->copy->to, sequence->copy->tokens});
    }
  }
  // Only now may a source be given to somebody else: copies of one plan never meet.
  for (Sequence* sequence : order_) {
    if (sequence->copy.has_value() && sequence->copy->after < plan_.number) sequence->copy.reset();
  }
  plan_.slots = slots_.TakeChanges();
  sampled = std::move(sampled_);
  return std::move(plan_);
}

}  // namespace conclave::worker
