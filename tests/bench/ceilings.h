#pragma once

namespace conclave::bench {

// What this machine can do at most, with so many threads: the best of several tries.
struct Ceilings {
  int threads = 1;
  double read_gb = 0;     // GB/s, reading memory far larger than the caches, in huge pages.
  double fma_gflops = 0;  // GFLOP/s, f32 multiply-adds in registers (two operations each).
};

// `megabytes` is what each try reads, at least 1.
Ceilings MeasureCeilings(int threads, int megabytes);

}  // namespace conclave::bench
