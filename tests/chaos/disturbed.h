#pragma once

#include <functional>
#include <string>

#include "tests/chaos/asker.h"

namespace conclave {

// Both ended well and have the same bytes: answer, receipt, and every agent's tokens with their
// probabilities. A failed expectation otherwise.
void ExpectSame(const Seen& seen, const Seen& other);

// Asks the router, does something to its group while agents think, and expects the same bytes as of
// `undisturbed`, and that agents resumed.
void ExpectSameThrough(const std::string& router, const v1::GenerateRequest& question,
                       const Seen& undisturbed, const std::function<void()>& disturb);

}  // namespace conclave
