#pragma once

#include "worker/backend/cuda/matrix.h"
#include "worker/backend/cuda/platform.h"
#include "worker/backend/tensor.h"

namespace conclave::worker::cuda {

// Rows of a weight become e4m3 or int4, while it is loaded. `rows` (bf16 or f32, in device memory,
// finite): the next rows of the matrix; `to`, `scales`: where the first of them goes. `stride` as
// Matrix::stride; what lies between rows.cols and it becomes zero.
//
// e4m3: the scale of a row is the least power of two with which its greatest number is within
// +-448. A power of two costs e4m3 nothing but half an octave of its range; it makes widened
// weights exact, and where ranks hold parts of a row they differ only in numbers below 2^-13 of the
// row's greatest (e4m3's subnormals).
// int4: scale = max|w| / 7 of each group of 128 along `in`, nibble = round(w / scale) + 8. Exact
// across ranks when the cut falls between groups.
void Quantise(Tensor rows, Stored stored, int64_t stride, void* to, float* scales,
              cudaStream_t stream);

// An e4m3 or int4 matrix as bf16 numbers, scale * number rounded: `to` is [out][stride]. Bound by
// memory: 3 bytes a number (e4m3), 2.5 (int4).
void Widen(const Matrix& from, void* to, cudaStream_t stream);

}  // namespace conclave::worker::cuda
