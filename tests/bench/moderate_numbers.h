#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace conclave::bench {

// bf16 of either sign, between 1/16 and 1/2; always the same.
inline std::vector<uint16_t> ModerateNumbers(size_t count) {
  std::vector<uint16_t> numbers(count);
  uint64_t state = 7;
  for (uint16_t& number : numbers) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const auto bits = static_cast<uint32_t>(state >> 33);
    number = static_cast<uint16_t>((bits & 0x8000) | ((123 + bits % 3) << 7) | (bits >> 16 & 0x7f));
  }
  return numbers;
}

}  // namespace conclave::bench
