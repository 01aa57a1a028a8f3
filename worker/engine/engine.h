#pragma once

#include <absl/status/status.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/generation.h"
#include "common/types.h"
#include "worker/engine/output_policy.h"
#include "worker/step.h"

namespace conclave::worker {

// One generation to run.
struct AgentSpec {
  AgentId id{};
  std::vector<TokenId> prompt;  // At least one token.
  Sampling sampling;
  int grant = 0;  // Most tokens after the prompt, forced and fed ones included. At least 1.
  int run_to =
      INT32_MAX;  // Waits (neither end nor hold) when it has this many tokens after the prompt.
  std::unique_ptr<OutputPolicy> policy;  // Not null.
  std::vector<TokenEvent>
      produced;  // An agent that ran before: fed silently through the policy, never sampled again.
};

// How one agent ended. sampled, forced and fed are this stream's own counts: fed tokens came with
// `produced`.
struct AgentEnd {
  Finish finish = Finish::kStop;
  int sampled = 0, forced = 0, fed = 0;
  int trailing = 0;  // Last tokens that carry no text (stop token, stop string).
};

// What one stream cost the engine. Prompt tokens are those of all agents together: computed +
// shared = their sum.
struct FamilyCounters {
  int64_t prompt_computed =
      0;                      // Run through the model. One row that seeds many agents counts once.
  int64_t prompt_shared = 0;  // Found in the tree, or computed once for another agent.
  int64_t sampled = 0, forced = 0, fed = 0;
  int64_t recomputed = 0;  // Rows run again after a preemption, an eviction or a resumption.
};

// Where a family's events go. Called on the engine's thread, in order, and must not block. For each
// agent: OnAccepted (or OnRefused for the gang), any number of OnTokens, then exactly one OnEnd.
// Exactly one OnFamilyEnd, last.
class FamilySink {
 public:
  virtual ~FamilySink() = default;
  virtual void OnAccepted(const std::vector<AgentId>& gang) = 0;
  // kOutOfRange: more than the empty pool could hold; `width` agents of this gang would fit.
  // kResourceExhausted: no room now. kInvalidArgument: duplicate id, empty prompt, produced tokens
  // that the policy contradicts, and the like.
  virtual void OnRefused(const std::vector<AgentId>& gang, const absl::Status& why, int width) = 0;
  // `first` = index of the first of `tokens` after the prompt. Fed tokens are not reported again.
  virtual void OnTokens(AgentId agent, int first, const std::vector<TokenEvent>& tokens) = 0;
  virtual void OnEnd(AgentId agent, const AgentEnd& end) = 0;
  virtual void OnFamilyEnd(const FamilyCounters& counters) = 0;
};

struct FamilySpec {
  uint64_t seed = 0;
  std::string salt;  // Of the prefix cache: families with different salts never share a block.
};

// What routers may still send, and how full the engine is.
struct EngineLoad {
  int agents_running = 0, agents_max = 0;
  int64_t queued_prompt_tokens = 0;       // Accepted, not yet computed.
  int blocks_free = 0, blocks_total = 0;  // Of the fullest pool; evictable blocks count as free.
  int64_t steps = 0, prompt_tokens_computed = 0, tokens_sampled = 0, preemptions = 0,
          prefix_hit_tokens = 0;
};

struct EngineOptions {
  int max_batched_tokens = 512;  // Rows of one step: the chunk budget of prefill.
  int max_families = 256;
  int plans_in_flight = 1;  // 1 or 2. Same bytes.
};

class FamilyStream;

// Families and their agents: whole token lists in, tokens out. What agents share is found in the
// radix tree. Runs one thread, the engine's; the public methods may be called from any thread and
// never block on a step. `runner` and `clock` must outlive it.
class Engine {
 public:
  Engine(const EngineOptions& options, StepRunner& runner, Clock& clock);
  ~Engine();  // Ends every family first.

  // kResourceExhausted when there are too many families. `sink` is shared with the engine's thread
  // until OnFamilyEnd.
  absl::StatusOr<std::unique_ptr<FamilyStream>> Open(FamilySpec spec,
                                                     std::shared_ptr<FamilySink> sink);

  EngineLoad load() const;

  // The group's error once a step has failed; OK before. Nothing is served any more after that.
  absl::Status health() const;

  class Core;

 private:
  std::shared_ptr<Core>
      core_;  // Shared with the streams, which may outlive the engine's owner for a moment.
};

// The caller's end of one family. The destructor releases: agents that still run end as kCancelled,
// then OnFamilyEnd. Thread-safe; never blocks. Commands are obeyed in order.
class FamilyStream {
 public:
  FamilyStream(std::shared_ptr<Engine::Core> core, uint64_t family);
  ~FamilyStream();
  FamilyStream(const FamilyStream&) = delete;
  FamilyStream& operator=(const FamilyStream&) = delete;

  // All enter together, or all are refused and nothing is kept. Agents with `produced` may start
  // one by one.
  void Add(std::vector<AgentSpec> gang);
  // Raises the count at which the agent waits.
  void RunTo(AgentId agent, int count);
  // Its blocks are free within two steps. Of an ended or unknown agent: nothing happens.
  void Cancel(AgentId agent);
  // No Add will follow: OnFamilyEnd comes when the last agent has ended.
  void Finish();

 private:
  std::shared_ptr<Engine::Core> core_;
  uint64_t family_;
};

}  // namespace conclave::worker
