#pragma once

#include <cstdio>
#include <cstdlib>

// CHECK(condition): what only a bug can break. Stays in release builds; prints and aborts.
#define CHECK(condition)                                                                     \
  (__builtin_expect(static_cast<bool>(condition), 1)                                         \
       ? static_cast<void>(0)                                                                \
       : (std::fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition), \
          std::abort()))

// Costs nothing in release builds: for inner loops.
#ifdef NDEBUG
#define DCHECK(condition) static_cast<void>(sizeof(condition))
#else
#define DCHECK(condition) CHECK(condition)
#endif
