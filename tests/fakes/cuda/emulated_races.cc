// Finds accesses of a kernel's threads that nothing orders. Kernels that are compiled with
// -fsanitize=thread tell of every load and store through the functions below, which stand here in
// place of that sanitizer's own library. Two accesses of one byte, one of them a write, by
// different threads, must have a barrier (or, in one warp, a __syncwarp()) between them; in global
// memory blocks of one launch must not meet at all. Atomics are left out. A kernel that may start
// early must not use what earlier ones write before it has waited for them.

#include <array>
#include <cstdio>
#include <memory>
#include <unordered_map>
#include <unordered_set>

#include "emulated_block.h"

#ifdef CONCLAVE_SYMBOLS  // The address sanitizer's library is there: it knows the lines.
#include <sanitizer/common_interface_defs.h>
#endif

namespace conclave::worker::cuda::emulated {
namespace {

struct Access {
  Moment when;
  const void* pc = nullptr;  // Null: none.
};

// What has been done to one byte: the last write, the last read, and the last read by another warp
// than that one's.
struct Byte {
  Access write, read, other_read;
};

constexpr uintptr_t kLine = 64;
using Line = std::array<Byte, kLine>;

// By address / kLine; of the launch that is under way.
std::unordered_map<uintptr_t, std::unique_ptr<Line>>& lines =
    *new std::unordered_map<uintptr_t, std::unique_ptr<Line>>;

Line& LineOf(uintptr_t number) {
  std::unique_ptr<Line>& line = lines[number];
  if (line == nullptr) line = std::make_unique<Line>();
  return *line;
}

void Print(const char* what, const Access& access) {
  // The call itself, not what comes after it.
  const char* call = static_cast<const char*>(access.pc) - 1;
  char place[512] = "";
#ifdef CONCLAVE_SYMBOLS  // The address sanitizer's library is there: it knows the lines.
  __sanitizer_symbolize_pc(const_cast<char*>(call), "%S in %f", place, sizeof(place));
#endif
  std::fprintf(stderr, "  %s: block %u thread %d after barrier %u, %p %s\n", what,
               access.when.block, access.when.thread, access.when.barriers,
               static_cast<const void*>(call), place);
}

bool Ordered(const Access& before, const Moment& now, bool shared) {
  if (before.pc == nullptr) return true;
  const Moment& then = before.when;
  if (then.block != now.block) return shared;  // Another block's shared memory is other memory.
  return then.thread == now.thread || then.barriers < now.barriers ||
         (then.thread / 32 == now.thread / 32 && then.syncs < now.syncs);
}

void Check(const Access& before, const char* earlier, const Access& now, const char* later,
           bool shared, const void* at) {
  if (Ordered(before, now.when, shared)) return;
  std::fprintf(stderr, "emulated CUDA: a race on a byte of %s memory (%p)\n",
               shared ? "shared" : "global", at);
  Print(earlier, before);
  Print(later, now);
  Fail("accesses that nothing orders", Where::current());
}

// Before GridDependencyWait() earlier kernels may still run: nothing of global memory may be
// written, and nothing read that a kernel has written since all was waited for.
void CheckEarly(const void* at, size_t bytes, bool write, const Access& now) {
  static std::unordered_set<uintptr_t>& written = *new std::unordered_set<uintptr_t>;  // Bytes / 8.
  static uint64_t idle = 0;
  if (idle != times_idle) written.clear();
  idle = times_idle;
  const auto first = reinterpret_cast<uintptr_t>(at);
  for (uintptr_t word = first / 8; word <= (first + bytes - 1) / 8; ++word) {
    if (now.when.may_write) {
      if (write) written.insert(word);
    } else if (write || written.contains(word)) {
      Print(write ? "write" : "read", now);
      Fail("global memory is used before GridDependencyWait()", Where::current());
    }
  }
}

void Remember(const void* at, size_t bytes, bool write, const void* pc) {
  if (!InKernel()) return;  // Functions of the host, from the same sources.
  const bool shared = InSharedMemory(at, bytes);
  if (!shared) {
    const size_t room = DeviceBytesAt(at);
    if (room == 0) return;  // A thread's own, or constant.
    if (room < bytes) Fail("an access beyond the end of device memory", Where::current());
  }
  static uint64_t launch = 0;
  if (launch != LaunchCount()) lines.clear();  // What an earlier kernel wrote may be read.
  launch = LaunchCount();
  const Access now = {Now(), pc};
  if (!shared) CheckEarly(at, bytes, write, now);
  const auto first = reinterpret_cast<uintptr_t>(at);
  Line* line = nullptr;
  for (uintptr_t byte = first; byte < first + bytes; ++byte) {
    if (line == nullptr || byte % kLine == 0) line = &LineOf(byte / kLine);
    Byte& seen = (*line)[byte % kLine];
    const auto* address = reinterpret_cast<const void*>(byte);
    if (write) {
      Check(seen.read, "read", now, "write", shared, address);
      Check(seen.other_read, "read", now, "write", shared, address);
      if (shared || !collisions_may_stand) {
        Check(seen.write, "write", now, "write", shared, address);
      }
      seen.write = now;
    } else {
      Check(seen.write, "write", now, "read", shared, address);
      const Moment& then = seen.read.when;
      if (then.block != now.when.block || then.thread / 32 != now.when.thread / 32) {
        seen.other_read = seen.read;
      }
      seen.read = now;
    }
  }
}

}  // namespace

}  // namespace conclave::worker::cuda::emulated

#define CONCLAVE_ACCESS(name, bytes, write)                                                    \
  void name(void* at) {                                                                        \
    conclave::worker::cuda::emulated::Remember(at, bytes, write, __builtin_return_address(0)); \
  }
#define CONCLAVE_ACCESSES(bytes)                              \
  CONCLAVE_ACCESS(__tsan_read##bytes, bytes, false)           \
  CONCLAVE_ACCESS(__tsan_write##bytes, bytes, true)           \
  CONCLAVE_ACCESS(__tsan_unaligned_read##bytes, bytes, false) \
  CONCLAVE_ACCESS(__tsan_unaligned_write##bytes, bytes, true)

extern "C" {
CONCLAVE_ACCESSES(1)
CONCLAVE_ACCESSES(2)
CONCLAVE_ACCESSES(4)
CONCLAVE_ACCESSES(8)
CONCLAVE_ACCESSES(16)
void __tsan_read_range(void* at, size_t bytes) {
  conclave::worker::cuda::emulated::Remember(at, bytes, false, __builtin_return_address(0));
}
void __tsan_write_range(void* at, size_t bytes) {
  conclave::worker::cuda::emulated::Remember(at, bytes, true, __builtin_return_address(0));
}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_init() {
  conclave::worker::cuda::emulated::note_access = conclave::worker::cuda::emulated::Remember;
}
}
