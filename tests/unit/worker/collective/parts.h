#pragma once

#include <cstdint>
#include <random>
#include <thread>
#include <vector>

namespace conclave::worker {

// What a rank brings: numbers whose sum depends on the order in which they are added.
inline std::vector<float> Part(int rank, size_t count) {
  std::mt19937 generator(static_cast<uint32_t>(rank) + 1);
  std::uniform_real_distribution<float> uniform(-1e6f, 1e6f);
  std::vector<float> part(count);
  for (float& v : part) v = uniform(generator) * (rank % 2 == 0 ? 1.0f : 1e-6f);
  return part;
}

// Added in rank order, element by element: what every rank must get, bit for bit.
inline std::vector<float> SumInRankOrder(int size, size_t count) {
  std::vector<float> sum = Part(0, count);
  for (int r = 1; r < size; ++r) {
    const std::vector<float> part = Part(r, count);
    for (size_t i = 0; i < count; ++i) sum[i] += part[i];
  }
  return sum;
}

// All parts, one after another.
inline std::vector<float> AllParts(int size, size_t count) {
  std::vector<float> all;
  for (int r = 0; r < size; ++r) {
    const std::vector<float> part = Part(r, count);
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

// work(rank), each on a thread of its own.
template <typename Work>
void OnThreads(int size, Work work) {
  std::vector<std::thread> threads;
  for (int r = 0; r < size; ++r) threads.emplace_back([&work, r] { work(r); });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace conclave::worker
