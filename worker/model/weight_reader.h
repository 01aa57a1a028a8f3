#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "worker/backend/device.h"
#include "worker/model/safetensors.h"
#include "worker/model/sharding.h"

namespace conclave::worker {

// Reads tensors of one checkpoint for one rank, checks their shapes, and remembers which were used.
// Errors name the tensor. `files` and `device` must outlive it.
class WeightReader {
 public:
  WeightReader(const Safetensors& files, Device& device) : files_(files), device_(device) {}

  // Rows and columns of a matrix that is stored as [out, in] = `shape`.
  struct Part {
    std::string name;
    std::pair<int, int> shape;
    Span rows, cols;
  };
  // Whether a device that is told to may keep a matrix in fewer bits.
  enum class Kept : uint8_t { kMayBeQuantised, kAsStored };
  // The parts' rows, one below the other, as one matrix: in the type in which they are stored, or
  // f32 when they differ.
  absl::StatusOr<std::unique_ptr<Weight>> Matrix(const std::vector<Part>& parts,
                                                 Kept kept = Kept::kMayBeQuantised);
  // Parts of vectors, one after the other, as f32 in the device's memory.
  struct VectorPart {
    std::string name;
    int size = 0;
    Span part;
  };
  absl::StatusOr<std::unique_ptr<Buffer>> Vector(const std::vector<VectorPart>& parts);
  // The type of the last matrix.
  DType dtype() const { return dtype_; }
  // kInvalidArgument when the files have a tensor that was neither read nor is in `ignored`.
  absl::Status CheckSurplus(const std::set<std::string>& ignored) const;

 private:
  absl::StatusOr<const StoredTensor*> Find(const std::string& name,
                                           const std::vector<int64_t>& shape);

  const Safetensors& files_;
  Device& device_;
  DType dtype_ = DType::kF32;
  std::set<std::string> used_;
};

}  // namespace conclave::worker
