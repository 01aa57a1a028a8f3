#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "common/generation.h"
#include "common/types.h"

// What policy (the engine, on the leader) asks of mathematics (every rank): the one header that
// both halves share.
namespace conclave::worker {

// A sequence's place on every rank: an index below GroupShape::max_slots.
using SlotId = int32_t;
// A KV page: an index below KvPoolShape::num_blocks of its pool. Each kind of layer has its own
// pool.
using BlockId = int32_t;

inline constexpr int kBlockTokens = 16;  // Tokens in one KV block.

// What a slot's draws have to heed besides its sampling.
struct DrawRules {
  std::vector<TokenId> barred;  // Never drawn at an index below `barred_until`.
  int32_t barred_until = 0;
  int32_t top_logprobs = 0;  // So many of the likeliest are told with each token; at most 20.

  bool operator==(const DrawRules&) const = default;
};

struct KvPoolShape {
  int num_blocks = 0;
  int window_tokens = 0;  // 0 = these layers see everything; else a query sees itself and window -
                          // 1 earlier tokens.
};

// What a group is, the same on every rank. Read once at start.
struct GroupShape {
  int tp = 1;             // Ranks of the group.
  int vocab_size = 0;     // Ids at or above it are never sampled.
  int max_positions = 0;  // A sequence's greatest length, prompt included.
  int max_slots = 0;      // Sequences at a time.
  int max_rows = 0;       // Rows of one step.
  int max_samples = 0;    // Sample requests of one step.
  // Whether a token that an agent produced has another KV than the same token in a prompt: then
  // cached blocks of the one never stand for the other.
  bool kinds_differ = false;
  std::vector<KvPoolShape> pools;  // One for each kind of layer.
  std::string weights_hash;        // Hex SHA-256 over the weight files' bytes.
  std::string numerics;  // "cpu/avx512/f32/kv-f32/v1": backend, instruction set, compute, KV,
                         // numerics_version.
};

// Only what changed since the last step. Applied in order, before copies and rows.
struct SlotChange {
  enum class Kind : uint8_t { kOpen, kAppend, kTruncate, kClose };
  Kind kind = Kind::kOpen;
  SlotId slot = 0;
  // kOpen: how this slot samples. `history`: what the penalties have to know (prompt and produced
  // tokens); filled only when a penalty is on.
  uint64_t seed = 0;
  AgentId agent{};
  Sampling sampling;
  DrawRules rules;
  std::vector<TokenId> history;
  // kOpen, kAppend: blocks added at the table's end, [pool][k].
  std::vector<std::vector<BlockId>> blocks;
  // kOpen: length of the prompt; rows at and behind it, and what follows it in `history`, were
  // produced. kTruncate: forget KV and history from this position on; blocks behind it leave the
  // table.
  int position = 0;
};

// The first `tokens` of `from` are copied to `to` in one pool, on all layers, before anything is
// written.
struct BlockCopy {
  int pool = 0;
  BlockId from = 0, to = 0;
  int tokens = 0;
};

// One token of one slot: its KV is written at `position`. Rows of a slot stand together, in order
// of position; within a layer all rows' KV is written before any row attends, so a row may attend
// to blocks that another slot's rows fill in this step.
struct Row {
  SlotId slot = 0;
  int32_t position = 0;
  TokenId token = 0;  // kPreviousSample: what this slot sampled in the step before.
};
inline constexpr TokenId kPreviousSample = -1;

// Draws one token for `slot` from the logits of `row`. One row may serve many slots. `index` counts
// everything after the agent's prompt: it is the random counter.
struct SampleRequest {
  int32_t row = 0;
  SlotId slot = 0;
  int32_t index = 0;
};

// One forward pass, the same on every rank.
struct StepPlan {
  uint64_t number = 0;  // Counts up by one from 1.
  std::vector<SlotChange> slots;
  std::vector<BlockCopy> copies;
  std::vector<Row> rows;
  std::vector<SampleRequest> samples;
};

// tokens[i] answers samples[i] of the plan.
struct StepResult {
  uint64_t number = 0;
  std::vector<TokenEvent> tokens;
};

// Runs plans on all ranks of the group. Called by one thread only (the engine's).
class StepRunner {
 public:
  virtual ~StepRunner() = default;
  virtual const GroupShape& shape() const = 0;
  // Does not wait for the step. At most two plans may be in flight.
  virtual absl::Status Submit(StepPlan plan) = 0;
  // Waits for the oldest plan in flight, at most until its deadline. Any error means that the group
  // is lost: the process exits, the launcher ends the other ranks, routers resume elsewhere.
  virtual absl::StatusOr<StepResult> Await() = 0;
};

}  // namespace conclave::worker
