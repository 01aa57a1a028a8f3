#pragma once

#include "conclave/v1/conclave.pb.h"

namespace conclave {

// The same request, led by all that `receipt` says of it; whoever answers compares the hash.
v1::GenerateRequest ReplayOf(v1::GenerateRequest request, const v1::Receipt& receipt);

}  // namespace conclave
