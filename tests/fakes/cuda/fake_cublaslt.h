#pragma once

namespace conclave::fakes {

// What the fake's heuristic offers, in this order.
enum class CublasAlgorithm {
  kSplitsK,
  kByCompany,  // Its bits depend on the number of rows.
  kSlow,       // Right; takes 10 ms more.
  kRight,      // The same bits.
  kOtherOrder  // Right, with other bits.
};

// Of the last product.
CublasAlgorithm LastCublasAlgorithm();

// While it lives, there is no memory for products of this algorithm.
class ShortOfMemory {
 public:
  explicit ShortOfMemory(CublasAlgorithm algorithm);
  ~ShortOfMemory();
};

}  // namespace conclave::fakes
