#pragma once

#include <algorithm>
#include <vector>

#include "worker/backend/tensor.h"

namespace conclave::worker {

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
