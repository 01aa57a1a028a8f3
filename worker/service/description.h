#pragma once

#include <cstdint>
#include <string>

#include "common/model_description.h"
#include "worker/step.h"
#include "worker/text/text_model.h"

namespace conclave::worker {

// Hex SHA-256 over all that an agent's bytes depend on: weights, texts, TP degree and numerics.
// Equal fingerprints give the same bytes.
std::string Fingerprint(const GroupShape& shape, const TextModel& text);

// What the group says of itself. The KV cache holds what its smallest pool of layers that see
// everything holds.
ModelDescription Describe(const std::string& name, const std::string& family, int64_t parameters,
                          const GroupShape& shape, const TextModel& text);

}  // namespace conclave::worker
