#pragma once

#include <string>
#include <vector>

#include "tests/chaos/question.h"

namespace conclave {

// The worker beside the emulated GPU module, as Program takes its name; it finds the driver with
// this variable.
inline const std::string kGpuWorker = CONCLAVE_EMULATED_GPU "/conclave-worker";
inline const std::string kGpuDriver = "LD_LIBRARY_PATH=" CONCLAVE_EMULATED_GPU;

// Emulation is slow, and a worker tries its greatest steps before it serves: they are small.
inline const std::vector<std::string> kGpuSettings = {
    "group.device=cuda", "group.kv_tokens=1024", "group.max_agents=4",
    "group.max_batched_tokens=32", "launcher.beat=3s"};

// One that these settings have room for: contemplating, RESUME.
inline v1::GenerateRequest GpuQuestion() {
  v1::GenerateRequest request = Question(0);
  request.mutable_budget()->set_thinking_tokens(64);
  request.mutable_budget()->set_answer_tokens(16);
  return request;
}

}  // namespace conclave
