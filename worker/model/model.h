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

// The rows of one step, as a model sees them.
struct StepRows {
  std::vector<TokenId> tokens;
  std::vector<RowPlace> places;      // One for each token.
  std::vector<int32_t> logits_rows;  // Rows whose logits are wanted, in this order.
};

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
  // logits in `logits` [logits_rows, shard().vocab.size()]. All ranks call it with the same rows.
  virtual absl::Status Forward(const StepRows& rows, KvPool& pool, Tensor logits) = 0;
  // Hex SHA-256 of the configuration and the weight files, and their number of parameters.
  virtual const std::string& weights_hash() const = 0;
  virtual int64_t parameters() const = 0;
};

// Reads config.json and the rank's share of the weights. Errors name file, key or tensor; a tensor
// that the architecture does not know is refused too.
absl::StatusOr<std::unique_ptr<Model>> LoadModel(const std::filesystem::path& dir, Device& device,
                                                 Collective& collective, const ModelLimits& limits);

}  // namespace conclave::worker
