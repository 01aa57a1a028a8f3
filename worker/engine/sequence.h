#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "worker/engine/agent_tokens.h"
#include "worker/engine/block_name.h"
#include "worker/engine/kv_cache.h"

namespace conclave::worker {

// The engine's key of one family; its order is the order of opening.
using FamilyKey = uint64_t;

// What a sequence's family gives it.
struct SequenceOrigin {
  FamilyKey family = 0;
  uint64_t serial = 0;  // Unique in the engine, in order of Add.
  uint64_t seed = 0;
  BlockName root;
  bool kinds_differ = false;           // GroupShape's.
  FamilyCounters* counters = nullptr;  // The family's; outlives the sequence.
};

// In the id under which a copy of an agent draws; in no agent's.
inline constexpr uint32_t kProbeBit = 1u << 31;

// An agent inside the scheduler, or a copy of one that is being asked: its tokens, how many of them
// are in KV, and where.
struct Sequence {
  Sequence(const SequenceOrigin& where, AgentSpec spec, KvCache& cache)
      : origin(where),
        id(spec.id),
        sampling(std::move(spec.sampling)),
        rules(std::move(spec.rules)),
        produced(std::move(spec.produced)),
        tokens(spec),
        table(cache) {}
  // A copy of `agent` as it was when it had `count` tokens after its prompt.
  Sequence(const SequenceOrigin& where, const Sequence& agent, int count, KvCache& cache);

  bool is_copy() const { return asked != 0; }

  // The known tokens as cached blocks know them: where kinds differ, produced ones are marked.
  std::span<const TokenId> Named();
  // The chained name of the full block `index` of the known tokens. Computed once.
  const BlockName& NameOf(int index);
  // The name in front of block `index`.
  const BlockName& NameBefore(int index) { return index == 0 ? origin.root : NameOf(index - 1); }
  // The name of all known tokens together.
  BlockName WholeName();

  // Publishes the blocks that are full of known tokens, as filled at the latest by plan `step`.
  void PublishFull(KvCache& cache, uint64_t step);

  // Samples in flight that will be taken.
  int valid_in_flight() const { return in_flight - overtaken; }
  // Whether another row may be run for it.
  bool can_run() const { return tokens.wants_token(valid_in_flight()); }
  // The blocks that all known tokens and the next one take.
  int BlocksWanted() const;

  const SequenceOrigin origin;
  const AgentId id;
  const Sampling sampling;
  const DrawRules rules;
  const std::vector<TokenEvent> produced;
  AgentTokens tokens;

  uint64_t probe = 0;            // Of an agent: the serial of the copy that is being asked; or 0.
  const uint64_t asked = 0;      // Of a copy: the serial of its agent; 0: this is an agent.
  const int at = 0;              // Of a copy: its agent's count when it was made.
  std::vector<TokenEvent> told;  // Of a copy: what it was given and drew.

  // KV. Positions below `computed` are in the blocks (or will be, by plans already made). A
  // sequence that does not run holds nothing: it was preempted, or is being resumed.
  bool running = false;
  bool prefilling = true;  // Until the row is scheduled from which its next token is drawn.
  BlockTable table;
  int computed = 0;
  int published = 0;   // Blocks in the tree; the table's first ones.
  int high_water = 0;  // Greatest `computed` ever: rows below it are run again.

  // A copy into the table's last block, to be part of the first plan after `after`.
  struct PendingCopy {
    BlockPin source;
    BlockId to = 0;
    int tokens = 0;
    uint64_t after = 0;
  };
  std::optional<PendingCopy> copy;

  // The slot, as the ranks know it.
  SlotId slot = -1;
  int blocks_sent = 0;
  bool truncate = false;  // A sample was overtaken: the ranks must forget it.

  int in_flight = 0;        // Samples asked for and not answered yet.
  int overtaken = 0;        // The first so many answers are to be dropped.
  uint64_t sampled_in = 0;  // The plan with the last sample request.
  uint64_t planned_in = 0;  // The plan with the last row or sample request.

 private:
  std::vector<BlockName> names_;
  std::vector<TokenId> marked_;  // Where kinds differ.
};

constexpr int BlocksFor(int64_t positions) {
  return static_cast<int>((positions + kBlockTokens - 1) / kBlockTokens);
}

}  // namespace conclave::worker
