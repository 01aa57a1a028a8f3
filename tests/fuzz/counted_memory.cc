#include "tests/fuzz/counted_memory.h"

#include <malloc.h>

#include <algorithm>
#include <cstdlib>
#include <new>

namespace {

// Memory that another thread frees makes `held` wrap: it is signed, and only differences matter.
thread_local long held = 0, most = 0;

void* Take(size_t size, size_t alignment) {
  void* memory = alignment > alignof(std::max_align_t)
                     ? std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment)
                     : std::malloc(std::max<size_t>(size, 1));
  if (memory == nullptr) std::abort();  // A bound was passed long before.
  held += static_cast<long>(malloc_usable_size(memory));
  most = std::max(most, held);
  return memory;
}

void Give(void* memory) {
  if (memory == nullptr) return;
  held -= static_cast<long>(malloc_usable_size(memory));
  std::free(memory);
}

}  // namespace

void* operator new(size_t size) { return Take(size, 1); }
void* operator new[](size_t size) { return Take(size, 1); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return Take(size, 1); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return Take(size, 1); }
void* operator new(size_t size, std::align_val_t alignment) {
  return Take(size, static_cast<size_t>(alignment));
}
void* operator new[](size_t size, std::align_val_t alignment) {
  return Take(size, static_cast<size_t>(alignment));
}
void operator delete(void* memory) noexcept { Give(memory); }
void operator delete[](void* memory) noexcept { Give(memory); }
void operator delete(void* memory, size_t) noexcept { Give(memory); }
void operator delete[](void* memory, size_t) noexcept { Give(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { Give(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { Give(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { Give(memory); }
void operator delete[](void* memory, size_t, std::align_val_t) noexcept { Give(memory); }

namespace conclave {

CountedMemory::CountedMemory() : start_(static_cast<size_t>(held)) { most = held; }

size_t CountedMemory::peak() const {
  return static_cast<size_t>(std::max(most - static_cast<long>(start_), 0L));
}

}  // namespace conclave
