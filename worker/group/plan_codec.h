#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <string>
#include <string_view>

#include "worker/step.h"

namespace conclave::worker {

// A plan, and how long every rank may take for it.
struct TimedPlan {
  StepPlan plan;
  absl::Duration patience;  // At most 24 hours; whole nanoseconds.
};

// Plans and results as bytes: a kind and a version, then whole numbers of variable length (seven
// bits a byte, lowest first; signed ones zigzagged), floats and seeds as little endian. Of a slot
// change only the fields that its kind uses travel. Each value has one spelling: what decodes,
// encodes to the same bytes.
//
// Decoding takes any bytes: kInvalidArgument says what is wrong. Memory is bounded by a constant
// times the message's size, since every count is checked against the bytes that are left.
std::string EncodePlan(const TimedPlan& plan);
absl::StatusOr<TimedPlan> DecodePlan(std::string_view bytes);

std::string EncodeResult(const StepResult& result);
absl::StatusOr<StepResult> DecodeResult(std::string_view bytes);

}  // namespace conclave::worker
