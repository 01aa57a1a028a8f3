#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "common/clock.h"
#include "tests/fakes/fake_step_runner.h"
#include "tests/fakes/recording_sink.h"
#include "worker/engine/engine_core.h"

namespace conclave::worker {

// Steers by simple rules: a function of the agent's tokens alone.
class RulePolicy : public OutputPolicy {
 public:
  struct Rules {
    int stop_every = 0;   // Ids that are multiples of it stop the agent; 0 = none.
    int force_every = 0;  // Ids that are multiples of it force `force`; 0 = none.
    std::vector<TokenId> force;
    int stop_at = 0;     // Stops at this count; 0 = never.
    int force_at = 0;    // Forces `force` after the token with this count; 0 = never.
    int thinks_for = 0;  // Thinks while it has fewer tokens.
  };

  explicit RulePolicy(Rules rules) : rules_(std::move(rules)) {}
  Verdict OnToken(const TokenEvent& token) override;

 private:
  const Rules rules_;
  int count_ = 0;
};

// What an agent is, so that it can be run again.
struct AgentPlan {
  AgentId id{};
  std::vector<TokenId> prompt;
  int grant = 8;
  int run_to = INT32_MAX;
  bool penalty = false;
  RulePolicy::Rules rules;
  std::vector<TokenEvent> produced;
  ConfidenceBar bar = {};
  // How copies of it are asked, and how they end.
  int probe_every = 0, probe_tokens = 0;
  std::vector<TokenId> probe_force = {};
  RulePolicy::Rules probe_rules = {};

  AgentSpec Spec() const;
};

// Consecutive tokens from `first` on.
std::vector<TokenId> Prompt(int length, TokenId first = 1);
// Agents 0 .. width-1 of stage 0, alike but for their ids.
std::vector<AgentPlan> MakeGang(int width, const AgentPlan& like);
std::vector<AgentSpec> Specs(const std::vector<AgentPlan>& plans);

// What the agent produces when it runs to its end, by the definition of its draws: no engine.
struct Expected {
  std::vector<TokenEvent> tokens;            // Fed ones too.
  AgentEnd end;                              // `fed` = 0: of an agent that brings nothing.
  std::vector<RecordingSink::Probe> probes;  // In order of `at`; `count` is not set.
};
Expected RunAlone(const AgentPlan& plan, uint64_t seed, int vocab_size);

// How many agents of the gang, the first ones, an empty engine can promise all of their grants, by
// the definition: every agent needs a block for each 16 tokens but its last; full blocks of prompts
// that start alike are needed once; agents that bring tokens count alone.
int WidthThatFits(const std::vector<AgentPlan>& gang, const GroupShape& shape);

// An engine whose turns the test takes itself, on a fake group.
class EngineFixture {
 public:
  explicit EngineFixture(const GroupShape& shape = SmallShape(), EngineOptions options = {});

  struct Opened {
    std::unique_ptr<FamilyStream> stream;
    std::shared_ptr<RecordingSink> sink;  // Shared with the engine.
  };
  Opened Open(uint64_t seed = 1, const std::string& salt = "");

  // Until nothing is left to do.
  void RunDry();
  bool Turn();
  int64_t steps() const { return runner.totals().steps; }

  FakeStepRunner runner;
  FakeClock clock;
  std::shared_ptr<Engine::Core> core;  // Shared with the streams.
};

}  // namespace conclave::worker
