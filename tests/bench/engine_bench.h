#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/fakes/thread_ranks.h"
#include "worker/engine/engine.h"

namespace conclave::bench {

// Gives one group to one engine after another: plans are counted on, and slots that the last engine
// left open are closed. One thread.
class SharedGroup : public worker::StepRunner {
 public:
  explicit SharedGroup(std::unique_ptr<worker::StepRunner> group) : group_(std::move(group)) {}

  // The next plan is number 1 of somebody else. REQUIRES: none is in flight.
  void Begin();

  const worker::GroupShape& shape() const override { return group_->shape(); }
  absl::Status Submit(worker::StepPlan plan) override;
  absl::StatusOr<worker::StepResult> Await() override;

 private:
  std::unique_ptr<worker::StepRunner> group_;
  uint64_t before_ = 0, last_ = 0;
  std::vector<worker::SlotId> open_;
  std::vector<worker::SlotChange> closes_;
};

// A gang of one family, all with the same prompt of random tokens.
struct Gang {
  int agents = 1;
  int prompt = 32;    // Tokens.
  int tokens = 64;    // Of each agent; at least 2 to measure decoding.
  uint64_t seed = 1;  // Of prompt and draws.
  float temperature = 1;
  int probe_every = 0;    // A copy of each agent is asked so often; 0 = never.
  int probe_tokens = 20;  // Of its answer. Three more are put before it.
};

// Seconds, by the engine's sink: from Add to everybody's first token, and from there to the end.
struct Timing {
  double first = 0, rest = 0;
};

// Runs the gang through an engine of its own.
absl::StatusOr<Timing> RunEngine(SharedGroup& group, int plans_in_flight, const Gang& gang);
absl::StatusOr<Timing> RunEngine(SharedGroup& group, const worker::EngineOptions& options,
                                 const Gang& gang);

// The same steps without an engine: plans that are made beforehand, two in flight, so that the
// ranks never wait. Needs KV for all.
absl::StatusOr<Timing> RunRanks(SharedGroup& group, const Gang& gang);

// Tokens per second of all agents together after the first.
inline double DecodeRate(const Gang& gang, const Timing& timing) {
  return gang.agents * (gang.tokens - 1) / timing.rest;
}

}  // namespace conclave::bench
