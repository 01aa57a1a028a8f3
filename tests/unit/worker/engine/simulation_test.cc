#include "tests/unit/worker/engine/simulation.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace conclave::worker {
namespace {

// One thread, so the thread sanitizer has little to see, and takes four times as long.
#ifdef __SANITIZE_THREAD__
constexpr uint64_t kHistories = 500;
#else
constexpr uint64_t kHistories = 2000;
#endif

// CONCLAVE_SIMULATIONS: so many histories; CONCLAVE_SIMULATION_SEED: the first one's seed.
uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST(EngineSimulationTest, EveryAgentGivesWhatItGivesAloneInEveryHistory) {
  const uint64_t histories = FromEnvironment("CONCLAVE_SIMULATIONS", kHistories);
  const uint64_t first = FromEnvironment("CONCLAVE_SIMULATION_SEED", 1);
  SimulationTotals totals;

  for (uint64_t seed = first; seed < first + histories; ++seed) {
    SCOPED_TRACE(seed);
    ASSERT_EQ(Simulate(seed, totals), "") << "CONCLAVE_SIMULATION_SEED=" << seed;
  }

  RecordProperty("histories", static_cast<int>(histories));
  printf(
      "simulated %ld histories: %ld agents, %ld cancelled, %ld resumed, %ld waits, %ld steps,"
      " %ld preemptions, %ld evictions, %ld overrun, %ld refused now, %ld refused for ever,"
      " %ld tried again, longest wait %ld steps, %ld copies, %ld truncations, %ld recomputed, %ld "
      "forced, %ld shared, %ld below their bar, %ld copies asked, %ld dropped\n",
      static_cast<long>(histories), totals.agents, totals.cancelled, totals.resumed, totals.waits,
      totals.steps, totals.preemptions, totals.evictions, totals.overrun, totals.refused,
      totals.never_fit, totals.tried_again, totals.longest_wait, totals.copies, totals.truncations,
      totals.recomputed, totals.forced, totals.shared, totals.barred, totals.probes,
      totals.probes_dropped);
  if (histories < 500) return;
  for (const int64_t reached :
       {totals.refused, totals.never_fit, totals.tried_again, totals.cancelled, totals.resumed,
        totals.waits, totals.copies, totals.preemptions, totals.evictions, totals.overrun,
        totals.truncations, totals.recomputed, totals.forced, totals.shared, totals.barred,
        totals.probes, totals.probes_dropped}) {
    EXPECT_GT(reached, 0);
  }
}

}  // namespace
}  // namespace conclave::worker
