#pragma once

#include <cstdint>
#include <memory>

#include "worker/backend/tensor.h"

// What a device holds for others.
namespace conclave::worker {

// Memory of a device, owned. Aligned to 64 bytes, zeroed.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual void* data() = 0;
  float* floats() { return static_cast<float*>(data()); }
};

// A matrix as its backend packed it: opaque.
class Weight {
 public:
  virtual ~Weight() = default;
  virtual int64_t in() const = 0;
  virtual int64_t out() const = 0;
};

// Gives a matrix row by row while it is packed: row i is the weights of output i.
class RowSource {
 public:
  virtual ~RowSource() = default;
  virtual int64_t rows() const = 0;
  virtual int64_t cols() const = 0;
  virtual DType dtype() const = 0;
  // Whether a device may keep it in fewer bits than the file, where it is told to.
  virtual bool may_be_quantised() const { return false; }
  // `to` has cols() elements of dtype().
  virtual void Read(int64_t row, void* to) const = 0;
};

// One KV pool on one rank: [layer][block], keys and values of kv_heads heads of head_width, in the
// device's own layout and type.
struct KvPool {
  std::unique_ptr<Buffer> keys, values;
  int layers = 0, num_blocks = 0, kv_heads = 0, head_width = 0;
};

}  // namespace conclave::worker
