#include "tests/integration/replay.h"

namespace conclave {

v1::GenerateRequest ReplayOf(v1::GenerateRequest request, const v1::Receipt& receipt) {
  request.clear_seed();
  v1::Replay& replay = *request.mutable_replay();
  replay.set_seed(receipt.seed());
  replay.set_time_of_day(receipt.time_of_day());
  replay.set_fingerprint(receipt.fingerprint());
  replay.set_aggregator_fingerprint(receipt.aggregator_fingerprint());
  *replay.mutable_agent_fingerprints() = receipt.agent_fingerprints();
  replay.set_decision_version(receipt.decision_version());
  *replay.mutable_decisions() = receipt.decisions();
  replay.set_result_hash(receipt.result_hash());
  return request;
}

}  // namespace conclave
