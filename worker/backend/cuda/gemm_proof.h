#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "worker/backend/cuda/platform.h"
#include "worker/backend/tensor.h"

namespace conclave::worker::cuda {

// Tries on the device whether a product out = x W^T (out += x W^T with `add`) gives a row the same
// bits alone and in any company, and writes nothing but its rows. x bf16 [N, in]. One thread.
class GemmProof {
 public:
  struct Shape {
    int64_t in = 0, out = 0;
    DType type = DType::kF32;  // Of out. f32 is tried with `add` too.
    int64_t rows = 0;          // Most rows of one call.
  };
  // Starts the product on `stream`.
  using Product = std::function<absl::Status(Tensor x, Tensor out, bool add, cudaStream_t stream)>;

  // Takes (in * 2 + out * (2 or 4)) bytes of device memory a row.
  static absl::StatusOr<std::unique_ptr<GemmProof>> Make(const Shape& shape);
  ~GemmProof();

  // kInternal names the number of rows with which a row's bits were others, or the error.
  absl::Status Check(const Product& product);
  // Of all rows' bits: products with the same bits have the same digest.
  absl::StatusOr<uint64_t> Digest(const Product& product);
  // Of one call with all rows, the fastest of three.
  absl::StatusOr<float> Milliseconds(const Product& product);

 private:
  struct Free {
    void operator()(void* data) const { (void)cudaFree(data); }
  };
  using Memory = std::unique_ptr<void, Free>;
  explicit GemmProof(const Shape& shape) : shape_(shape) {}
  absl::Status Allocate();
  absl::Status CheckCompany(const Product& product, bool add, int64_t first, int64_t rows,
                            const std::vector<uint64_t>& expected);
  // The product of rows [first, first + rows) over an `out` that is full of other numbers; the
  // hashes of its rows and of the rows after them, before and after it.
  struct Hashes {
    std::vector<uint64_t> before, after;
  };
  absl::StatusOr<Hashes> RunRows(const Product& product, bool add, int64_t first, int64_t rows);
  absl::Status Hash(Tensor from, std::vector<uint64_t>* hashes);
  Tensor X(int64_t first, int64_t rows) const;
  Tensor Out(int64_t rows) const;

  const Shape shape_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
  Memory x_, out_, hashes_;
};

}  // namespace conclave::worker::cuda
