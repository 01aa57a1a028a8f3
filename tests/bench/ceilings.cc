#include "tests/bench/ceilings.h"

#include <absl/time/clock.h>
#include <sys/mman.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "common/check.h"

namespace conclave::bench {
namespace {

constexpr int kTries = 20;
constexpr int kChains = 12;  // Independent sums: enough to cover the latency of a multiply-add.
constexpr int64_t kRounds = 2'000'000;

std::atomic<float> sink;  // So that nothing is optimised away.

#if defined(__x86_64__)
__attribute__((target("avx512f"))) int64_t Fma512() {
  __m512 sums[kChains], a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
  for (int i = 0; i < kChains; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  for (int64_t round = 0; round < kRounds; ++round) {
    for (__m512& sum : sums) sum = _mm512_fmadd_ps(sum, a, b);
  }
  for (const __m512& sum : sums) sink = _mm512_cvtss_f32(sum);
  return kRounds * kChains * 16 * 2;
}

__attribute__((target("avx2,fma"))) int64_t Fma256() {
  __m256 sums[kChains], a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
  for (int i = 0; i < kChains; ++i) sums[i] = _mm256_set1_ps(static_cast<float>(i));
  for (int64_t round = 0; round < kRounds; ++round) {
    for (__m256& sum : sums) sum = _mm256_fmadd_ps(sum, a, b);
  }
  for (const __m256& sum : sums) sink = _mm256_cvtss_f32(sum);
  return kRounds * kChains * 8 * 2;
}
#endif

int64_t FmaPlain() {
  float sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = static_cast<float>(i);
  for (int64_t round = 0; round < kRounds; ++round) {
    for (float& sum : sums) sum = sum * 0.999f + 0.001f;
  }
  for (const float sum : sums) sink = sum;
  return kRounds * kChains * 2;
}

// Multiply-adds with the widest registers that there are; how many operations it did.
int64_t MultiplyAdd() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return Fma512();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Fma256();
#endif
  return FmaPlain();
}

// Eight words a turn, which the compiler reads in wide registers.
int64_t Read(const uint64_t* words, size_t count) {
  uint64_t sums[8] = {};
  for (size_t i = 0; i + 8 <= count; i += 8) {
    for (size_t j = 0; j < 8; ++j) sums[j] += words[i + j];
  }
  uint64_t all = 0;
  for (const uint64_t sum : sums) all += sum;
  sink = static_cast<float>(all);
  return static_cast<int64_t>(count * sizeof(uint64_t));
}

// Calls work(thread) on all threads at once; the sum of what they did over the longest time.
template <typename Work>
double BestRate(int threads, const Work& work) {
  double best = 0;
  for (int i = 0; i < kTries; ++i) {
    std::vector<std::thread> running;
    std::atomic<int64_t> done = 0;
    const absl::Time begin = absl::Now();
    for (int t = 0; t < threads; ++t) running.emplace_back([&, t] { done += work(t); });
    for (std::thread& each : running) each.join();
    const double seconds = absl::ToDoubleSeconds(absl::Now() - begin);
    best = std::max(best, static_cast<double>(done.load()) / seconds);
  }
  return best / 1e9;
}

}  // namespace

Ceilings MeasureCeilings(int threads, int megabytes) {
  const size_t bytes = static_cast<size_t>(megabytes) << 20;
  void* const memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  madvise(memory, bytes, MADV_HUGEPAGE);
  auto* const words = static_cast<uint64_t*>(memory);
  const size_t count = bytes / sizeof(uint64_t), part = count / static_cast<size_t>(threads);
  for (size_t i = 0; i < count; i += 512) words[i] = i;
  Ceilings found{.threads = threads};
  found.read_gb = BestRate(
      threads, [&](int thread) { return Read(words + part * static_cast<size_t>(thread), part); });
  found.fma_gflops = BestRate(threads, [](int) { return MultiplyAdd(); });
  munmap(memory, bytes);
  return found;
}

}  // namespace conclave::bench
