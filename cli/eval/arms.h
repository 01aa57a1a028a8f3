#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <vector>

#include "conclave/v1/conclave.pb.h"

namespace conclave::cli {

// One way to answer the questions: what is compared.
struct Arm {
  std::string name;
  v1::GenerateRequest request;  // Without a question.
  bool gives_checker = false;   // Each request brings its problem's checker along.
};

// "name:key=value,key=value": the keys are the options of `conclave ask` (agents, stop-rule, ...)
// and `checker=suite`. What has no '=' belongs to the value before it ("temperatures=0.5,1").
// kInvalidArgument names the arm and what is wrong.
absl::StatusOr<Arm> ParseArm(const std::string& text);

// Arms of a YAML file: a list `arms` of {name, options: [key=value, ...]}.
absl::StatusOr<std::vector<Arm>> LoadArms(const std::string& path);

// The likeliest answer; a pool of 16 that shows what votes of fewer would come to; and 16 agents as
// the router runs them by itself.
std::vector<std::string> DefaultArms();

}  // namespace conclave::cli
