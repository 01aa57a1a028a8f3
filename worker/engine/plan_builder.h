#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "worker/engine/kv_cache.h"
#include "worker/engine/sequence.h"
#include "worker/engine/slot_book.h"
#include "worker/step.h"

namespace conclave::worker {

// What a plan may hold.
struct PlanLimits {
  int rows = 0, samples = 0;
  size_t pools = 1;
};

// Makes one plan. Sequences are given in the order in which they may take room: when it runs dry,
// the last of them that is not in the plan yet gives its blocks away. One thread.
class PlanBuilder {
 public:
  // `order`: all running sequences. `load` counts what happens. All must outlive it.
  PlanBuilder(uint64_t number, const PlanLimits& limits, KvCache& cache, SlotBook& slots,
              EngineLoad& load, const std::vector<Sequence*>& order);

  // The next rows of a sequence that has drawn before: usually one; more after forced tokens.
  void Run(Sequence& sequence);

  // The next piece of a prompt (or of what is computed again), from the tree as far as it goes. The
  // last row of the same tokens may be in the plan already: then it serves this sequence, too.
  void Prefill(Sequence& sequence);

  bool empty() const { return plan_.rows.empty(); }

  // Adds what changed in slots, and the copies. `sampled[i]` is the serial of samples[i]'s
  // sequence. Call once, last; not of an empty plan.
  StepPlan Finish(std::vector<uint64_t>& sampled);

  // Takes blocks and slot from a sequence: it no longer runs.
  static void TakeBack(Sequence& sequence, KvCache& cache, SlotBook& slots, uint64_t step);

 private:
  // The last row of a sequence's known tokens, and the block that it fills.
  struct Tail {
    int row = 0;
    BlockId block = 0;
  };

  int rows_left() const { return limits_.rows - static_cast<int>(plan_.rows.size()); }
  int samples_left() const { return limits_.samples - static_cast<int>(plan_.samples.size()); }

  void AttachPrefix(Sequence& sequence);
  bool AttachTail(Sequence& sequence);
  void CopyPart(Sequence& sequence);
  void Reach(Sequence& sequence, int computed);
  bool Reserve(Sequence& sequence, int positions);
  Sequence& LastBehind(Sequence& sequence);
  void AddRows(Sequence& sequence, int count);
  void AddSample(Sequence& sequence, int row);
  void CountRow(const Sequence& sequence, int position);

  const PlanLimits limits_;
  KvCache& cache_;
  SlotBook& slots_;
  EngineLoad& load_;
  const std::vector<Sequence*>& order_;
  StepPlan plan_;
  std::vector<uint64_t> sampled_;
  std::unordered_map<BlockName, Tail, BlockNameHash> tails_;  // Of this plan, by WholeName.
};

}  // namespace conclave::worker
