#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "worker/backend/tensor.h"

namespace conclave::worker {

class MappedFile;

// One tensor in a memory-mapped file. Valid while the Safetensors lives.
struct StoredTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  const uint8_t* data = nullptr;

  int64_t elements() const;
};

// The weights of a checkpoint: model.safetensors, or the shards that model.safetensors.index.json
// names. Memory-mapped, read only. Format: 8 bytes header length, JSON header (name -> dtype,
// shape, data_offsets), then the data.
class Safetensors {
 public:
  // Everything about the files is checked here, before any tensor is used: header length, JSON,
  // offsets in range, without overlap, dtype x shape = bytes. kNotFound, or kInvalidArgument naming
  // file, tensor and numbers.
  static absl::StatusOr<Safetensors> Open(const std::filesystem::path& dir);
  Safetensors(Safetensors&&) noexcept;
  Safetensors& operator=(Safetensors&&) noexcept;
  ~Safetensors();

  // kNotFound names the tensor.
  absl::StatusOr<const StoredTensor*> Find(const std::string& name) const;
  const std::map<std::string, StoredTensor>& tensors() const { return tensors_; }
  int64_t parameters() const;
  // Hex SHA-256 over `words`, then the files' bytes in the order of their names.
  absl::StatusOr<std::string> Hash(std::string_view words) const;
  // Tells the kernel that the pages read so far are not needed again.
  void DropPages() const;

 private:
  Safetensors();
  absl::Status AddFile(const std::filesystem::path& path);
  absl::Status AddTensors(const MappedFile& file);

  std::vector<std::unique_ptr<MappedFile>> files_;
  std::map<std::string, StoredTensor> tensors_;
};

}  // namespace conclave::worker
