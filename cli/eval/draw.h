#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace conclave::cli {

// Random numbers by counter: the nth of (seed, stream) is the same whatever else is drawn, on every
// machine. The mixing function is SplitMix64's (Steele, Lea, Flood, "Fast splittable pseudorandom
// number generators", OOPSLA 2014).
class Draw {
 public:
  Draw(uint64_t seed, uint64_t stream) : key_(Mix(Mix(seed) ^ (stream * kStep + 1))) {}

  uint64_t Next() { return Mix(key_ + ++count_ * kStep); }
  // Uniform over both ends and what lies between. REQUIRES: fewer than 2^32 values.
  int64_t Int(int64_t low, int64_t high) {
    const uint64_t values = static_cast<uint64_t>(high - low) + 1;
    return low + static_cast<int64_t>((Next() >> 32) * values >> 32);
  }
  // At least 0, below 1.
  double Unit() { return static_cast<double>(Next() >> 11) * 0x1p-53; }
  bool Chance(double probability) { return Unit() < probability; }

  template <typename List>
  const auto& Choice(const List& list) {
    return list[static_cast<size_t>(Int(0, static_cast<int64_t>(std::size(list)) - 1))];
  }
  template <typename List>
  void Shuffle(List& list) {
    for (size_t i = std::size(list); i > 1; --i) {
      std::swap(list[i - 1], list[static_cast<size_t>(Int(0, static_cast<int64_t>(i) - 1))]);
    }
  }

 private:
  static constexpr uint64_t kStep = 0x9e3779b97f4a7c15u;
  static constexpr uint64_t Mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }

  uint64_t key_, count_ = 0;
};

}  // namespace conclave::cli
