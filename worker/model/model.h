#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "common/types.h"
#include "worker/backend/device.h"
#include "worker/collective/collective.h"
#include "worker/model/config.h"
#include "worker/model/sharding.h"

namespace conclave::worker {

// What is asked of a model beside its files; it takes no memory for more.
struct ModelLimits {
  int max_rows = 1;       // Of one step.
  int max_positions = 0;  // Of one sequence; 0, or more than the model has: the model's.
};

// A decoder's mathematics on one rank: weights and forward pass.
class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelConfig& config() const = 0;
  virtual const Shard& shard() const = 0;
  // Rows stand at positions below it: the lesser of the model's and the limit.
  virtual int max_positions() const = 0;
  // Runs the rows, writes their KV into the pool, and leaves this rank's shard of the wanted rows'
  // logits in `logits` [at least the device's BatchSize::logits_rows, shard().vocab.size()], on the
  // device. All ranks call it with the same batch. What went wrong on the device may be returned by
  // its next Download() or TakeDraw() only.
  virtual absl::Status Forward(const Batch& batch, KvPool& pool, Tensor logits) = 0;
  // Hex SHA-256 of the configuration and the weight files, and their number of parameters.
  virtual const std::string& weights_hash() const = 0;
  virtual int64_t parameters() const = 0;
};

// Reads config.json and the rank's share of the weights. Errors name file, key or tensor; a tensor
// that the architecture does not know is refused too.
absl::StatusOr<std::unique_ptr<Model>> LoadModel(const std::filesystem::path& dir, Device& device,
                                                 Collective& collective, const ModelLimits& limits);

}  // namespace conclave::worker
