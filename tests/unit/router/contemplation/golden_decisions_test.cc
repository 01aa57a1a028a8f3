#include <gtest/gtest.h>

#include <string>

#include "router/contemplation/decision_script.h"
#include "tests/unit/router/contemplation/history.h"

namespace conclave::router {
namespace {

// What comes out of requests in which nothing was decided is a function of seed, request and the
// agents' tokens. It changed? Then answer keys, stop rules or token time changed: raise
// kDecisionVersion, so that no receipt of the old rules is replayed by the new ones, and put the
// new number here. (Or the scenarios are drawn otherwise: then only the number.)
constexpr int kVersion = 4;
constexpr uint64_t kGoldenWeighted = 16236075140167144177u;  // By weight and with bars.
constexpr uint64_t kGolden = 4349913732079563007u;

// Of 200 requests.
uint64_t HashOutcomes(Scenario (*make)(uint64_t seed)) {
  uint64_t hash = 0xcbf29ce484222325u;
  int outcomes = 0;
  for (uint64_t seed = 1; outcomes < 200; ++seed) {
    Scenario scenario = make(seed);
    if (!scenario.calm) continue;
    scenario.chaos.tells_credits = true;  // All enter together.
    const auto plan = MakePlan(scenario.request, scenario.model, scenario.limits);
    if (!plan.ok()) continue;
    const Outcome outcome = RunHistory(scenario, *plan);
    EXPECT_TRUE(outcome.completed) << outcome.status;
    if (!outcome.completed) break;
    EXPECT_TRUE(outcome.completed->receipt.decisions.empty());
    ++outcomes;
    for (const char c : outcome.completed->receipt.result_hash)
      hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  }
  return hash;
}

TEST(GoldenDecisionsTest, OutcomesAreWhatTheirVersionSays) {
  ASSERT_EQ(kVersion, kDecisionVersion);
  EXPECT_EQ(HashOutcomes(MakeScenario), kGolden);
  EXPECT_EQ(HashOutcomes(MakeWeightedScenario), kGoldenWeighted);
}

}  // namespace
}  // namespace conclave::router
