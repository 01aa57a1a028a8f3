#pragma once

#include <cstdint>
#include <string>

namespace conclave::worker {

// What happened in histories, to show that they reach what they are meant to reach.
struct SimulationTotals {
  int64_t agents = 0, cancelled = 0, resumed = 0, waits = 0;
  int64_t longest_wait = 0;                             // Turns without a token.
  int64_t refused = 0, never_fit = 0, tried_again = 0;  // Gangs.
  int64_t steps = 0, copies = 0, preemptions = 0, evictions = 0, overrun = 0, recomputed = 0,
          shared = 0, forced = 0, truncations = 0, barred = 0;
  int64_t probes = 0, probes_dropped = 0;
};

// One random history of an engine with a tiny, random pool: families open, add gangs with common
// prompts, wait, resume, cancel and close, until all has ended. Invariants are checked after every
// turn, and every agent's tokens against what it draws alone: so whoever can go on does, within a
// bounded number of steps. Returns what went wrong, or "".
std::string Simulate(uint64_t seed, SimulationTotals& totals);

}  // namespace conclave::worker
