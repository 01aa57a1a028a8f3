#pragma once

#include <cstdint>

#include "worker/backend/cuda/platform.h"
#include "worker/backend/tensor.h"

namespace conclave::worker::cuda {

// Rows for proofs about bits: numbers that a row's name alone fixes, and rows told apart by a hash.

// Row r becomes numbers in [-1, 1) that (seed, first_name + r, column) fixes. f32 or bf16.
void FillRows(Tensor to, uint32_t seed, int64_t first_name, cudaStream_t stream);

// hashes[r] (device memory): of the bits of row r and their places.
void HashRows(Tensor from, uint2* hashes, cudaStream_t stream);

}  // namespace conclave::worker::cuda
