#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "worker/backend/tensor.h"

namespace conclave::worker {

// out = a + b, `count` floats; `out` may be either. In vectors, without asking more of the compiler
// than constant bounds.
inline void Add(const float* a, const float* b, float* out, int64_t count) {
  constexpr int64_t kLanes = 16;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    float sums[kLanes];
    for (int64_t l = 0; l < kLanes; ++l) sums[l] = a[i + l] + b[i + l];
    for (int64_t l = 0; l < kLanes; ++l) out[i + l] = sums[l];
  }
  for (; i < count; ++i) out[i] = a[i] + b[i];
}

// A tensor's rows one after another without gaps: where it has gaps, in a copy. One thread.
class DenseRows {
 public:
  // rows * cols floats, valid until the next call. REQUIRES: dtype is kF32.
  float* Pack(Tensor x) {
    if (x.stride == x.cols || x.rows <= 1) return x.row(0);
    copy_.resize(static_cast<size_t>(x.rows * x.cols));
    for (int64_t n = 0; n < x.rows; ++n) std::copy_n(x.row(n), x.cols, copy_.data() + n * x.cols);
    return copy_.data();
  }
  // Puts what Pack(x) gave, and what was done to it, back into the rows.
  void Unpack(const float* packed, Tensor x) const {
    if (packed == x.data) return;
    for (int64_t n = 0; n < x.rows; ++n) std::copy_n(packed + n * x.cols, x.cols, x.row(n));
  }

 private:
  std::vector<float> copy_;
};

}  // namespace conclave::worker
