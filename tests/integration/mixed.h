#pragma once

#include "conclave/v1/conclave.pb.h"

namespace conclave {

// A request of each kind that there is, by its number: modes, strategies, ways to stop and to
// merge, probes, checkers, small budgets. Same number, same request; its id and seed are its own.
v1::GenerateRequest MixedRequest(int number);
inline constexpr int kMixedKinds = 16;

}  // namespace conclave
