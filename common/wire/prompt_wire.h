#pragma once

#include <absl/status/statusor.h>

#include "common/prompt.h"
#include "conclave/v1/conclave.pb.h"
#include "conclave/v1/worker.pb.h"

namespace conclave {

// A prompt <-> the fields that both APIs have for it: text, tokens, runs, pieces. ToWire fills
// them. FromWire takes any message: kInternal says what contradicts itself in it; kUnimplemented:
// it comes from a version that did not tell who wrote what.
void ToWire(const Prompt& prompt, v1::RenderResponse* out);
void ToWire(const Prompt& prompt, v1::RenderPromptResponse* out);
absl::StatusOr<Prompt> FromWire(const v1::RenderResponse& wire);
absl::StatusOr<Prompt> FromWire(const v1::RenderPromptResponse& wire);

}  // namespace conclave
