#pragma once

#include <absl/status/statusor.h>

#include "common/model_description.h"
#include "conclave/v1/types.pb.h"

namespace conclave {

// ModelDescription <-> types.proto. FromWire checks ranges and lengths (kInvalidArgument with the
// field's path).
v1::ModelDescription ToWire(const ModelDescription& model);
absl::StatusOr<ModelDescription> FromWire(const v1::ModelDescription& model);

}  // namespace conclave
