#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "worker/backend/cuda/cuda_memory.h"
#include "worker/backend/cuda/matrix.h"
#include "worker/backend/cuda/platform.h"
#include "worker/backend/device.h"

namespace conclave::worker::cuda {

struct CudaWeight : public Weight {
  Matrix matrix;
  DeviceMemory numbers, scales;
  uint64_t serial = 0;  // No two weights of a process have the same.

  int64_t in() const override { return matrix.in; }
  int64_t out() const override { return matrix.out; }
};

// Brings matrices from the checkpoint to the device: rows through pinned memory, a few megabytes at
// a time, so that reading the file and copying overlap. One thread.
class WeightPacker {
 public:
  // Rows of the sources, one below the other, kept as `stored`; in f32 and bf16 their width is
  // padded with zeros to a multiple of 8, and numbers are rounded to nearest even. e4m3 and int4 as
  // Quantise() makes them of bf16; kUnimplemented for widths that don't divide. REQUIRES: sources
  // of one width and type.
  absl::StatusOr<std::unique_ptr<CudaWeight>> Pack(const std::vector<const RowSource*>& sources,
                                                   Stored stored, cudaStream_t stream);

 private:
  absl::Status CopyRows(const std::vector<const RowSource*>& sources, const CudaWeight& to,
                        cudaStream_t stream);
  // The staging slot's rows, to row `row` of the weight and after it.
  absl::Status PutRows(int64_t row, int64_t rows, const CudaWeight& to, cudaStream_t stream);
  // Row `row` of the source as `stored`, at `to`.
  void Convert(const RowSource& source, int64_t row, Stored stored, void* to);

  Staging staging_;
  Scratch unquantised_;             // Rows of bf16, on the device.
  std::vector<unsigned char> row_;  // As the source has it.
  std::vector<uint16_t> f16_;       // bf16 of every f16, once it is needed.
};

}  // namespace conclave::worker::cuda
