#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "worker/backend/device.h"
#include "worker/collective/collective.h"
#include "worker/model/model.h"
#include "worker/runner/rank_steps.h"
#include "worker/runner/sampler.h"
#include "worker/step.h"

namespace conclave::worker {

// Counts up when a change of arithmetic changes any bit of a result. A test with golden bits guards
// it.
inline constexpr int kNumericsVersion = 1;

struct RunnerOptions {
  std::string model_dir;
  int64_t kv_tokens =
      65'536;  // Tokens that the KV pool holds, over all sequences. At least one block.
  int max_slots = 64;
  int max_rows = 512;
  int max_positions = 0;  // 0 = the model's.
};

// 64-bit hash of a step's number, and the slots and tokens of its samples: what ranks compare to
// prove that they agree.
uint64_t StepHash(const StepPlan& plan, const StepResult& result);

// One rank's share of every plan: slots, KV pool, forward pass, sampler. One thread.
class ModelRunner : public RankSteps {
 public:
  // Loads this rank's share. `device` and `collective` must outlive it.
  static absl::StatusOr<std::unique_ptr<ModelRunner>> Create(const RunnerOptions& options,
                                                             Device& device,
                                                             Collective& collective);

  const GroupShape& shape() const { return shape_; }
  const Model& model() const { return *model_; }

  // Where the device feeds draws and is alone: when it has all tokens of the plan.
  bool MayBegin(const StepPlan& plan) const override;
  // Plans come over a channel: one that is out of range anywhere is kInvalidArgument, and nothing
  // is run.
  absl::Status Begin(const StepPlan& plan) override;
  bool IsReady() override;
  // Every rank gives the same result.
  absl::StatusOr<StepResult> Finish() override;
  // Both at once.
  absl::StatusOr<StepResult> Run(const StepPlan& plan);

  // Runs the greatest steps that the limits allow, so that a device has by then all the memory that
  // any step needs: kResourceExhausted where it has not. Nothing on a CPU, whose memory is the
  // host's. Leaves nothing behind. Before the first plan; all ranks call it.
  absl::Status Rehearse();

  // How long a step of the first `rows` tokens of a sequence takes (fewer, where there is less
  // room). Leaves nothing behind. Before the first plan; all ranks call it with the same number.
  absl::StatusOr<absl::Duration> MeasureStep(int rows);

  // Logits of the last begun step's sampled rows on this rank, in the plan's order [samples'
  // distinct rows][shard width], for tests.
  absl::StatusOr<std::vector<std::vector<float>>> LastLogits();

 private:
  // How a slot's tokens are drawn.
  struct Drawing {
    Sampling sampling;
    DrawRules rules;
  };
  struct Slot {
    bool open = false;
    uint64_t seed = 0;
    AgentId agent{};
    std::shared_ptr<const Drawing> drawing;
    bool penalised = false;
    std::vector<TokenId> history;  // Only when penalised.
    int prompt_tokens = 0;         // Of the history: not produced.
    std::map<TokenId, int> seen, produced;
    std::vector<BlockId> blocks;
    // The last step that samples for it, and which of that step's draws is its. The token is known
    // when that step is finished.
    uint64_t sampled_in = 0;
    int32_t draw = 0;
    TokenId last_sample = -1;
  };
  // A step that was begun: what its tokens need of the slots, which the next plan may change.
  struct Begun {
    uint64_t number = 0;
    bool computes = false;  // Whether there is a draw to take.
    std::vector<DrawRequest> draws;
    std::vector<std::shared_ptr<const Drawing>> drawings;  // What `draws` point to.
    std::vector<SlotId> slots;
  };

  ModelRunner(const RunnerOptions& options, Device& device, Collective& collective);
  absl::Status Change(const SlotChange& change);
  absl::Status OpenSlot(const SlotChange& change, Slot& slot);
  absl::Status Append(const SlotChange& change, Slot& slot);
  void Truncate(int position, Slot& slot);
  absl::Status CheckPlan(const StepPlan& plan) const;
  absl::StatusOr<TokenId> Take(const StepPlan& plan, const Row& row);
  absl::Status MakeBatch(const StepPlan& plan);
  absl::Status BeginSamples(const StepPlan& plan, Begun& begun);
  // Positions that one sequence can have.
  int MostPositions() const;
  // The first `rows` tokens of a sequence; fewer, where there is less room.
  StepPlan FirstTokens(int rows) const;
  // A step that has not been: as the first one, and all is forgotten.
  absl::Status Try(StepPlan plan);
  // Whether the slot's last sample is not known to the host yet.
  bool IsAhead(const Slot& slot) const { return slot.sampled_in > finished_; }

  const RunnerOptions options_;
  Device& device_;
  Collective& collective_;
  std::unique_ptr<Model> model_;
  GroupShape shape_;
  KvPool pool_;
  std::unique_ptr<Buffer> logits_;
  // Of the step: its rows as the model sees them, where each row of the plan stands in them, and
  // the logits of Batch::logits_rows.
  Batch batch_;
  std::vector<int32_t> places_;
  Tensor last_logits_;
  std::vector<int32_t> sampled_rows_;  // Of the plan, rising.
  std::vector<Slot> slots_;
  std::deque<Begun> begun_;
  uint64_t last_number_ = 0, finished_ = 0;
};

}  // namespace conclave::worker
