#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <vector>

#include "worker/step.h"

namespace conclave::worker {

// A small group: 64 blocks, 16 slots, 64 rows a step, vocabulary of 1,000, 512 positions.
GroupShape SmallShape();

// What a fake model draws: a pure function of the family's seed, the agent, the index and every
// token before it. Log-probabilities are functions of the same.
TokenEvent FakeDraw(uint64_t seed, AgentId agent, int index, std::span<const TokenId> history,
                    int vocab_size);

// Runs plans on a model without mathematics, and aborts when a plan is wrong. A position's KV is a
// hash of the token, the position and the KV before it, read through the slot's blocks: so a row
// that attends to a block with other tokens in it, one that was given away too early, or one that
// somebody else writes, is found at once. What a slot draws is FakeDraw over what its blocks say,
// or the next token that is not barred; the likeliest are those that follow it. Submit and Await
// are one thread's; the rest may be called from any.
class FakeStepRunner : public StepRunner {
 public:
  explicit FakeStepRunner(const GroupShape& shape = SmallShape());

  // Draws these tokens instead: a function of agent and index. Set before the first step.
  using Script = std::function<TokenId(AgentId agent, int index)>;
  void set_script(Script script) { script_ = std::move(script); }

  // Await waits until steps are released; call before the first step. All are free to go otherwise.
  void HoldSteps();
  void ReleaseSteps(int count);
  void ReleaseAllSteps();
  // The next Await fails with this.
  void FailNextStep(const absl::Status& why);

  // What ran so far.
  struct Totals {
    int64_t steps = 0, rows = 0, samples = 0, copies = 0, opens = 0, truncations = 0;
    int most_rows = 0;  // Of one step.
  };
  Totals totals() const;

  const GroupShape& shape() const override { return shape_; }
  absl::Status Submit(StepPlan plan) override;
  absl::StatusOr<StepResult> Await() override;

 private:
  // One position of one block.
  struct Cell {
    bool written = false;
    TokenId token = 0;
    uint64_t kv = 0;  // Of this position and all before it.
  };
  struct Slot {
    bool open = false;
    uint64_t seed = 0;
    AgentId agent{};
    bool has_penalty = false;
    DrawRules rules;
    std::vector<TokenId> history;
    std::vector<BlockId> blocks;
    int covered = 0;  // Positions up to the slot's last row.
    uint64_t last_kv = 0;
    uint64_t sampled_in = 0;  // The plan that drew last_sampled for this slot.
    TokenId last_sampled = 0;
  };

  void Change(const SlotChange& change);
  void AppendBlocks(Slot& slot, const std::vector<std::vector<BlockId>>& blocks);
  void DropBlocks(Slot& slot, size_t keep);
  void Copy(const std::vector<BlockCopy>& copies);
  void Write(const Row& row, uint64_t number);
  void CheckUnread(BlockId block, const Row& row) const;
  void CheckKept() const;
  void CheckRows(const StepPlan& plan) const;
  TokenEvent Draw(const StepPlan& plan, const SampleRequest& sample);
  std::vector<TokenId> Attended(const Slot& slot, int positions) const;
  Cell& At(const Slot& slot, int position);

  const GroupShape shape_;
  Script script_;
  std::vector<Slot> slots_;
  std::vector<std::vector<Cell>> blocks_;
  std::vector<int> users_;  // Open slots with the block in their table.
  uint64_t last_number_ = 0;
  std::deque<StepResult> results_;

  mutable absl::Mutex mutex_;
  int64_t released_ ABSL_GUARDED_BY(mutex_) = INT64_MAX;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  Totals totals_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace conclave::worker
