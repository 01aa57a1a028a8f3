#pragma once

#include <string>

#include "router/admission/admission.h"
#include "router/contemplation/plan.h"

namespace conclave::router {

// What a plan takes, as far as it can be known: as many agents at a time as its widest wave has,
// and the tokens of the first one (whether there is another, its votes decide), its copies' too, in
// each round. Parts of a question enter together.
AdmissionQuestion AdmissionOf(const Plan& plan, const std::string& tenant);

}  // namespace conclave::router
