#pragma once

#include <algorithm>

#include "worker/runner/device_choice.h"
#include "worker/runner/model_runner.h"
#include "worker/worker_config.h"

namespace conclave::worker {

// What a rank is made of, from what the worker is told.
inline RunnerOptions RunnerOptionsOf(const WorkerConfig& config) {
  RunnerOptions options;
  options.model_dir = config.model.directory;
  options.kv_tokens = config.group.kv_tokens;
  options.max_slots = config.group.max_agents;
  options.max_rows = std::max(config.group.max_batched_tokens, config.group.max_agents);
  return options;
}

// `rank` of `ranks` that share a host's devices.
inline DeviceOptions DeviceOptionsOf(const WorkerConfig& config, int rank, int ranks) {
  DeviceOptions options;
  options.kind = config.group.device;
  options.instruction_set = config.group.instruction_set;
  options.threads = config.group.threads;
  options.cuda = config.group.cuda;
  options.rank = rank, options.ranks = ranks;
  options.group_ranks = config.group.tensor_parallel;
  return options;
}

}  // namespace conclave::worker
