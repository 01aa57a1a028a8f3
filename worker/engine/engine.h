#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/clock.h"
#include "common/confidence.h"
#include "common/generation.h"
#include "common/types.h"
#include "worker/engine/output_policy.h"
#include "worker/step.h"

namespace conclave::worker {

// Asks an agent for its answer so far, and the agent knows nothing of it. At every `every`-th drawn
// token (fed ones count) after which its policy says that it thinks and another one is drawn, a
// copy is made of it; `force` ends the copy's thinking, and it draws on by the agent's sampling,
// under an id of its own: the agent's with kProbeBit. It has no more tokens than the agent's grant:
// where no drawn one would be left, nobody is asked. The agent has at most `every` tokens more
// until the answer is there: then it waits.
struct ProbeRules {
  int every = 0;               // 0 = never, and the rest is not looked at.
  int tokens = 0;              // Most drawn by one copy. At least 1.
  std::vector<TokenId> force;  // At least 1.
  // Makes a policy for one copy: it is told `force`, then what the copy draws.
  std::function<std::unique_ptr<OutputPolicy>()> policy;
};

// One generation to run.
struct AgentSpec {
  AgentId id{};
  std::vector<TokenId> prompt;  // At least one token.
  Sampling sampling;
  DrawRules rules = {};
  int grant = 0;  // Most tokens after the prompt, forced and fed ones included. At least 1.
  int run_to =
      INT32_MAX;  // Waits (neither end nor hold) when it has this many tokens after the prompt.
  std::unique_ptr<OutputPolicy> policy;  // Not null.
  std::vector<TokenEvent>
      produced;  // An agent that ran before: fed silently through the policy, never sampled again.
  ConfidenceBar bar = {};  // Ends it as kBar; fed tokens count too. What else ends it at the same
                           // token goes before.
  ProbeRules probes = {};  // Of fed tokens, those are asked about that may not have been answered.
};

// How one agent ended. sampled, forced and fed are this stream's own counts: fed tokens came with
// `produced`.
struct AgentEnd {
  Finish finish = Finish::kStop;
  StopCause cause = {};  // Of kStop.
  int sampled = 0, forced = 0, fed = 0;
  int trailing = 0;  // Last tokens that carry no text (stop token, stop string).
};

// What one stream cost the engine. Of every prompt token of every accepted agent, prompt_computed
// or prompt_shared counts one; sampled, forced and fed are the sums of the agents' ends.
struct FamilyCounters {
  // Run through the model for the first time. One row that seeds many agents counts once.
  int64_t prompt_computed = 0;
  // Not run for this agent: found in the tree, computed for another agent, or the agent ended
  // before it was needed.
  int64_t prompt_shared = 0;
  int64_t sampled = 0, forced = 0, fed = 0;
  int64_t recomputed = 0;  // Rows run again after a preemption, an eviction or a resumption, and
                           // those of copies that their agent has run.
  int64_t probed = 0;      // Drawn and forced by copies, answered or dropped; in no other sum.
};

// Where a family's events go. Called on the engine's thread, in order, and must not block. For each
// agent: OnAccepted (or OnRefused for the gang), then any number of OnTokens, the last with its
// end, and OnProbe in between. Exactly one OnFamilyEnd, last. When the group is lost (see
// Engine::health), nothing more comes, neither ends nor OnFamilyEnd, and the engine drops its share
// of the sink.
class FamilySink {
 public:
  virtual ~FamilySink() = default;
  virtual void OnAccepted(const std::vector<AgentId>& gang) = 0;
  // kOutOfRange: more than the empty pool could hold; `width` agents of this gang would fit.
  // So is an agent with more positions than the model has; then `width` is 0. kResourceExhausted:
  // no room now. kInvalidArgument: duplicate id, empty prompt, produced tokens that the policy
  // contradicts, and the like. Refused ids may be used again.
  virtual void OnRefused(const std::vector<AgentId>& gang, const absl::Status& why, int width) = 0;
  // `first` = index of the first of `tokens` after the prompt. Fed tokens are not reported again.
  // `end` comes with the agent's last tokens, so that nobody ever sees the one without the other;
  // there are none when it was cancelled, or had all of them before.
  virtual void OnTokens(AgentId agent, int first, const std::vector<TokenEvent>& tokens,
                        const std::optional<AgentEnd>& end) = 0;
  // What a copy of the agent, made when it had `at` tokens after its prompt, was given and drew.
  // Before the agent's token number at + `every` + 1, in order of `at`; a copy whose agent ends
  // earlier is dropped. A resumed agent's may come again.
  // For sinks whose agents are not asked it does nothing.
  virtual void OnProbe(AgentId agent, int at, const std::vector<TokenEvent>& tokens);
  virtual void OnFamilyEnd(const FamilyCounters& counters) = 0;
};

struct FamilySpec {
  uint64_t seed = 0;
  std::string salt;  // Of the prefix cache: families with different salts never share a block.
};

// What routers may still send, and how full the engine is.
struct EngineLoad {
  int agents_running = 0, agents_max = 0;
  int agents_waiting = 0;                 // Of the running: hold no KV (not begun, or preempted).
  int64_t queued_prompt_tokens = 0;       // Accepted, not yet computed.
  int blocks_free = 0, blocks_total = 0;  // Of the fullest pool; evictable blocks count as free.
  int64_t steps = 0, prompt_tokens_computed = 0, tokens_sampled = 0, preemptions = 0,
          prefix_hit_tokens = 0;
  int64_t tokens_forced = 0;  // For agents, not their copies.
  int64_t prompt_tokens = 0;  // Of all agents that were accepted.
  int64_t evictions = 0;      // Blocks of ended or preempted agents whose content was given up.
  int64_t overrun = 0;  // Tokens drawn and dropped: their agent had ended, or had others forced.
  int64_t probes_answered = 0, probes_dropped = 0;
  int64_t probe_tokens = 0;  // Drawn and forced by copies that were answered or dropped.
  absl::Duration busy;       // Time with a step in flight, by the engine's clock.
};

struct EngineOptions {
  int max_batched_tokens = 512;  // Rows of one step: the chunk budget of prefill.
  int max_families = 256;
  int plans_in_flight = 1;  // 1 or 2. Same bytes.
  // Called on the engine's thread once a turn, and at least every 100 ms when idle, until the group
  // is lost: its sign of life. May be empty.
  std::function<void()> on_turn = {};
};

class FamilyStream;

// Families and their agents: whole token lists in, tokens out. What agents share is found in the
// radix tree. Runs one thread, the engine's; the public methods may be called from any thread and
// never block on a step. `runner` and `clock` must outlive it. Layers with a sliding window are not
// served: health() is then kUnimplemented from the start.
class Engine {
 public:
  Engine(const EngineOptions& options, StepRunner& runner, Clock& clock);
  ~Engine();  // Ends every family first. Not to be called from a sink.
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // kResourceExhausted when there are too many families; health() once the group is lost. `sink` is
  // shared with the engine's thread until OnFamilyEnd.
  absl::StatusOr<std::unique_ptr<FamilyStream>> Open(FamilySpec spec,
                                                     std::shared_ptr<FamilySink> sink);

  EngineLoad load() const;

  // The group's error once a step has failed; OK before. Nothing is served any more after that.
  absl::Status health() const;

  class Core;

 private:
  // Shared with the streams, which may outlive the engine's owner for a moment.
  std::shared_ptr<Core> core_;
  std::thread thread_;
};

// The caller's end of one family. The destructor releases: agents that still run end as kCancelled,
// then OnFamilyEnd. Thread-safe; never blocks. Commands are obeyed in order. A family with 1,024
// commands that the engine has not taken yet is released as by the destructor: its caller floods.
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
  // No Add will follow (it would be refused with kFailedPrecondition): OnFamilyEnd comes when the
  // last agent has ended.
  void Finish();

 private:
  std::shared_ptr<Engine::Core> core_;
  uint64_t family_;
};

}  // namespace conclave::worker
