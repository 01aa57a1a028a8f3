#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <vector>

namespace conclave::bench {

// Medians over requests that were sent one after another to a real router with a real worker
// of two ranks. Seconds.
struct Serving {
  double empty_call = 0;          // ListModels: a call that needs no worker.
  double empty_call_cpu = 0;      // Of the router.
  double one_first_event = 0;     // One agent: until Admitted,
  double one_first_answer = 0;    // until the first byte of the answer,
  double one_tokens_before = 0;   // and how many tokens came before it.
  double gang_first_event = 0;    // Eight agents: until Admitted,
  double gang_end = 0;            // and until Completed.
  double gang_critical_path = 0;  // Tokens one after another.
  double gang_rate = 0;           // Tokens per second of all agents.
  double router_cpu = 0;          // CPU of the router for each token of the eight agents.
  double router_share = 0;        // CPU of the router over wall time, while they ran.
};

// Starts the programs of this build, asks `requests` times with one agent and with eight, and stops
// them. Throws what did not start.
absl::StatusOr<Serving> MeasureServing(int plans_in_flight, int requests, int tokens);

}  // namespace conclave::bench
