#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "common/status.h"
#include "router/contemplation/decision_script.h"
#include "tests/unit/router/contemplation/history.h"

// Replays whose decisions nobody ever took: whatever a caller writes there, the request ends, with
// an answer or a reason, and keeps the rules on its way.
namespace conclave::router {
namespace {

AgentId AnyAgent(Random& random, const Plan& plan) {
  const int index = random.Below(static_cast<int>(plan.agents.size()));
  if (random.Chance(15)) return MakeAgentId(kAggregateStage, 0, 0);
  const int round = random.Below(plan.rounds + 1);
  if (plan.strategy != Strategy::kDecompose || random.Chance(30))
    return MakeAgentId(kThinkStage, round, index);
  return random.Chance(30) ? plan.split.id : MakeAgentId(kPartStage, random.Below(3), index);
}

Decision AnyDecision(Random& random, const Plan& plan) {
  Decision decision;
  decision.kind = static_cast<Decision::Kind>(random.Below(5));
  decision.clock = random.Below(40);
  for (int i = random.Below(3); i > 0; --i) {
    const AgentId agent = AnyAgent(random, plan);
    const bool drop = decision.kind == Decision::Kind::kDrop;
    if (drop || random.Chance(60)) decision.agents.push_back(agent);
    if (drop || (decision.kind > Decision::Kind::kDrop && random.Chance(60)))
      decision.cuts.push_back({.agent = agent, .kept = random.Below(20)});
  }
  std::sort(decision.agents.begin(), decision.agents.end());
  std::sort(decision.cuts.begin(), decision.cuts.end(),
            [](const Cut& a, const Cut& b) { return a.agent < b.agent; });
  return decision;
}

void Forge(Random& random, const Plan& plan, std::vector<Decision>& decisions) {
  const int at = decisions.empty() ? 0 : random.Below(static_cast<int>(decisions.size()));
  const int what = decisions.empty() ? 0 : random.Below(7);
  Decision* decision = decisions.empty() ? nullptr : &decisions[static_cast<size_t>(at)];
  switch (what) {
    case 0:
      decisions.insert(decisions.begin() + at, AnyDecision(random, plan));
      break;
    case 1:
      decisions.erase(decisions.begin() + at);
      break;
    case 2:
      decision->clock = std::max<int64_t>(0, decision->clock + random.Between(-3, 3));
      break;
    case 3:
      for (Cut& cut : decision->cuts) cut.kept = std::max(0, cut.kept + random.Between(-2, 2));
      break;
    case 4:
      decision->kind = static_cast<Decision::Kind>(random.Below(5));
      break;
    case 5:
      if (!decision->cuts.empty()) decision->cuts.pop_back();
      if (!decision->agents.empty() && random.Chance(50)) decision->agents.pop_back();
      break;
    default:
      decisions.push_back(AnyDecision(random, plan));
  }
}

// The receipt's decisions with one to three changes, in order again.
std::vector<Decision> Forged(Random& random, const Plan& plan, std::vector<Decision> decisions) {
  for (int n = random.Between(1, 3); n > 0; --n) Forge(random, plan, decisions);
  std::stable_sort(decisions.begin(), decisions.end(),
                   [](const Decision& a, const Decision& b) { return a.clock < b.clock; });
  for (size_t i = 0; i < decisions.size(); ++i) decisions[i].number = static_cast<int>(i) + 1;
  return decisions;
}

std::string TextOf(const std::vector<Decision>& decisions) {
  std::string text;
  for (const Decision& decision : decisions) {
    text += "\n" + NameOf(decision) + ", agents";
    for (AgentId agent : decision.agents) text += fmt::format(" {}", static_cast<uint32_t>(agent));
    for (const Cut& cut : decision.cuts)
      text += fmt::format(", {} keeps {}", static_cast<uint32_t>(cut.agent), cut.kept);
  }
  return text;
}

TEST(ForgedReplayTest, EndsWithAnAnswerOrAReason) {
  int refused = 0, answered = 0, aborted = 0;
  for (uint64_t seed = 0; seed < 1500 && !HasFailure(); ++seed) {
    Scenario scenario = MakeScenario(seed);
    if (seed % 2 == 1) AddRounds(scenario);
    if (seed % 5 == 2) AddWaves(scenario);
    if (seed % 7 < 2) AddAggregator(scenario);
    const auto plan = scenario.MakePlan();
    if (!plan.ok()) continue;
    const Outcome first = RunHistory(scenario, *plan);
    if (!first.completed) continue;
    Random random(seed);
    for (int i = 0; i < 4; ++i) {
      Scenario forged = MakeReplay(scenario, first.completed->receipt, seed + 1);
      ReplaySpec& replay = *forged.request.replay;
      replay.decisions = Forged(random, *plan, std::move(replay.decisions));
      replay.result_hash.clear();
      SCOPED_TRACE(fmt::format("seed {}:{}", seed, TextOf(replay.decisions)));
      const auto again = forged.MakePlan();
      if (!again.ok()) {
        EXPECT_TRUE(absl::IsInvalidArgument(again.status())) << again.status();
        ++refused;
        continue;
      }
      const Outcome outcome = RunHistory(forged, *again);
      aborted += absl::IsAborted(outcome.status) ? 1 : 0;
      if (!outcome.completed) continue;
      ++answered;
      EXPECT_EQ(outcome.completed->receipt.decisions, replay.decisions);
    }
  }
  fmt::print("{} refused, {} aborted, {} answered\n", refused, aborted, answered);
  for (const int reached : {refused, aborted, answered}) EXPECT_GT(reached, 100);
}

}  // namespace
}  // namespace conclave::router
