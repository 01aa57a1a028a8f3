#include "tests/bench/engine_bench.h"

#include <absl/synchronization/notification.h>
#include <absl/time/clock.h>

#include <algorithm>
#include <random>
#include <utility>

#include "common/clock.h"
#include "common/status.h"

namespace conclave::bench {

using worker::kBlockTokens;
using worker::SlotChange;
using worker::StepPlan;

void SharedGroup::Begin() {
  before_ += last_;
  last_ = 0;
  closes_.clear();
  for (const worker::SlotId slot : open_) {
    closes_.emplace_back();
    closes_.back().kind = SlotChange::Kind::kClose;
    closes_.back().slot = slot;
  }
  open_.clear();
}

absl::Status SharedGroup::Submit(StepPlan plan) {
  last_ = plan.number;
  plan.number += before_;
  for (const SlotChange& change : plan.slots) {
    if (change.kind == SlotChange::Kind::kOpen) open_.push_back(change.slot);
    if (change.kind == SlotChange::Kind::kClose) std::erase(open_, change.slot);
  }
  plan.slots.insert(plan.slots.begin(), closes_.begin(), closes_.end());
  closes_.clear();
  return group_->Submit(std::move(plan));
}

absl::StatusOr<worker::StepResult> SharedGroup::Await() {
  auto result = group_->Await();
  if (result.ok()) result->number -= before_;
  return result;
}

namespace {

std::vector<TokenId> RandomTokens(int count, int vocab, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<TokenId> tokens(static_cast<size_t>(count));
  for (TokenId& token : tokens) {
    token = static_cast<TokenId>(random() % static_cast<uint64_t>(vocab));
  }
  return tokens;
}

// Never ends an agent, which thinks all the time.
class GoOn : public worker::OutputPolicy {
 public:
  worker::Verdict OnToken(const TokenEvent&) override {
    worker::Verdict verdict;
    verdict.thinks = true;
    return verdict;
  }
};

class Stopwatch : public worker::FamilySink {
 public:
  explicit Stopwatch(int agents) : waiting_(agents) {}

  void OnAccepted(const std::vector<AgentId>&) override {}
  void OnRefused(const std::vector<AgentId>&, const absl::Status& why, int) override {
    refused = why;
  }
  void OnTokens(AgentId, int first, const std::vector<TokenEvent>&,
                const std::optional<worker::AgentEnd>&) override {
    if (first == 0 && --waiting_ == 0) first_tokens = absl::Now();
  }
  void OnFamilyEnd(const worker::FamilyCounters&) override {
    end = absl::Now();
    done.Notify();
  }

  absl::Status refused;
  absl::Time first_tokens, end;
  absl::Notification done;

 private:
  int waiting_;
};

// The plan of one decode step of all agents, whose prompts and `index` tokens are computed.
StepPlan DecodePlan(const Gang& gang, int index) {
  StepPlan plan;
  for (int i = 0; i < gang.agents; ++i) {
    plan.rows.push_back({i, gang.prompt + index - 1, worker::kPreviousSample});
    plan.samples.push_back({i, i, index});
  }
  return plan;
}

// Everybody computes a prompt of its own: what is measured is what follows.
StepPlan OpenPlan(const Gang& gang, int agent, int vocab) {
  StepPlan plan;
  SlotChange open;
  open.slot = agent;
  open.seed = gang.seed;
  open.sampling.temperature = gang.temperature;
  const int blocks = (gang.prompt + gang.tokens) / kBlockTokens + 1;
  open.blocks.emplace_back();
  for (int i = 0; i < blocks; ++i) open.blocks[0].push_back(agent * blocks + i);
  plan.slots.push_back(std::move(open));
  const auto prompt = RandomTokens(gang.prompt, vocab, gang.seed);
  for (int i = 0; i < gang.prompt; ++i) {
    plan.rows.push_back({agent, i, prompt[static_cast<size_t>(i)]});
  }
  plan.samples = {{gang.prompt - 1, agent, 0}};
  return plan;
}

absl::Status RunOne(SharedGroup& group, StepPlan plan, uint64_t number) {
  plan.number = number;
  RETURN_IF_ERROR(group.Submit(std::move(plan)));
  return group.Await().status();
}

}  // namespace

absl::StatusOr<Timing> RunEngine(SharedGroup& group, int plans_in_flight, const Gang& gang) {
  return RunEngine(group, worker::EngineOptions{.plans_in_flight = plans_in_flight}, gang);
}

absl::StatusOr<Timing> RunEngine(SharedGroup& group, const worker::EngineOptions& options,
                                 const Gang& gang) {
  group.Begin();
  const auto watch = std::make_shared<Stopwatch>(gang.agents);
  std::vector<worker::AgentSpec> specs(static_cast<size_t>(gang.agents));
  const auto prompt = RandomTokens(gang.prompt, group.shape().vocab_size, gang.seed);
  for (int i = 0; i < gang.agents; ++i) {
    worker::AgentSpec& spec = specs[static_cast<size_t>(i)];
    spec.id = MakeAgentId(kThinkStage, 0, i);
    spec.prompt = prompt;
    spec.grant = gang.tokens;
    spec.sampling.temperature = gang.temperature;
    spec.policy = std::make_unique<GoOn>();
    if (gang.probe_every == 0) continue;
    spec.probes = {
        .every = gang.probe_every, .tokens = gang.probe_tokens, .force = {1, 2, 3}, .policy = [] {
          return std::make_unique<GoOn>();
        }};
  }
  RealClock clock;
  worker::Engine engine(options, group, clock);
  ASSIGN_OR_RETURN(const auto family, engine.Open({.seed = gang.seed, .salt = ""}, watch));
  const absl::Time begin = absl::Now();
  family->Add(std::move(specs));
  family->Finish();
  while (!watch->done.WaitForNotificationWithTimeout(absl::Seconds(1))) {
    RETURN_IF_ERROR(engine.health());
  }
  RETURN_IF_ERROR(watch->refused);
  return Timing{.first = absl::ToDoubleSeconds(watch->first_tokens - begin),
                .rest = absl::ToDoubleSeconds(watch->end - watch->first_tokens)};
}

absl::StatusOr<Timing> RunRanks(SharedGroup& group, const Gang& gang) {
  group.Begin();
  uint64_t number = 0;
  const absl::Time begin = absl::Now();
  for (int i = 0; i < gang.agents; ++i) {
    RETURN_IF_ERROR(RunOne(group, OpenPlan(gang, i, group.shape().vocab_size), ++number));
  }
  // The first decode step of agents that sampled in different steps names their tokens.
  StepPlan first = DecodePlan(gang, 1);
  for (worker::Row& row : first.rows) row.token = 1;
  RETURN_IF_ERROR(RunOne(group, std::move(first), ++number));
  const absl::Time decoding = absl::Now();
  for (int index = 2; index < gang.tokens; ++index) {
    StepPlan plan = DecodePlan(gang, index);
    plan.number = ++number;
    RETURN_IF_ERROR(group.Submit(std::move(plan)));
    if (index > 2) RETURN_IF_ERROR(group.Await().status());
  }
  RETURN_IF_ERROR(group.Await().status());
  const double seconds = absl::ToDoubleSeconds(absl::Now() - decoding);
  return Timing{.first = absl::ToDoubleSeconds(decoding - begin),
                .rest = seconds * (gang.tokens - 1) / (gang.tokens - 2)};
}

}  // namespace conclave::bench
