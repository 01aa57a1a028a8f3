#pragma once

#include <cstddef>

namespace conclave {

// Counts what this binary's `new` takes: so that a test can bound the memory that a hostile input
// makes the code take. Counted by thread.
class CountedMemory {
 public:
  // Forgets the peak so far.
  CountedMemory();
  // The most bytes at once since then, over what was held at the start.
  size_t peak() const;

 private:
  size_t start_;
};

}  // namespace conclave
