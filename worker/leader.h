#pragma once

#include <absl/status/status.h>

#include <cstdint>
#include <string>

#include "common/log.h"
#include "worker/group/beat.h"
#include "worker/group/group_memory.h"
#include "worker/step.h"
#include "worker/worker_config.h"

namespace conclave::worker {

// What the leader of a group builds on. All of it outlives Lead.
struct LeaderParts {
  const WorkerConfig& config;
  GroupMemory& memory;
  const Beat& beat;
  StepRunner& runner;
  std::string family;      // Of the model, as config.json names it.
  int64_t parameters = 0;  // Of the model.
  bool elsewhere = false;  // Some ranks are on other hosts.
  const Logger& log;
};

// Waits until every rank is ready, serves the worker API and metrics, and drains when
// SIGTERM or SIGINT comes, which every thread must have blocked. Returns OK after the drain, or why
// it could not serve. When the group is lost the process ends within (with _exit: a step that hangs
// would never let a destructor end).
absl::Status Lead(const LeaderParts& parts);

}  // namespace conclave::worker
