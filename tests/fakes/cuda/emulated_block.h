#pragma once

// What a running kernel of the emulator sees: blocks of a launch run one after another on the
// calling thread, their threads as fibers. A thread runs until it waits for others (a barrier, or
// an operation of its warp), then the next one runs, now in rising, now in falling order, so that
// a missing barrier shows as a wrong result. Misuse ends the process with a message that says
// where.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>

#include "vector_types.h"

// Of the running thread; set by the emulator alone.
inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;

namespace conclave::worker::cuda::emulated {

using Where = std::source_location;

// The start of one kernel, with its arguments bound.
struct Start {
  dim3 grid, block;
  size_t shared_bytes = 0;
  bool early = false;
  bool together = false;         // Blocks run in rising order, for those of other processes do too.
  std::function<void()> thread;  // What every thread runs.
};

inline constexpr size_t kMostShared = 232448;       // Bytes a block may have: as sm_90.
size_t SharedOfEnvironment();                       // EMULATED_CUDA_SHARED, or that.
inline size_t most_shared = SharedOfEnvironment();  // Of this device; a test may change it.

// Runs all blocks. One launch at a time.
void RunKernel(const Start& start);

// Prints the message, the running thread and the place, and aborts.
[[noreturn]] void Fail(const char* message, Where where);

// Waits for all threads of the block that have not ended. All come from the same place.
void Barrier(Where where);

// What the lanes of a warp hand to one another.
struct Lane {
  uint64_t value = 0;
  const void *first = nullptr, *second = nullptr;
  void* result = nullptr;
};
int LaneIndex();
// Where this lane leaves what it has before it meets the others; what they left can be read until
// the next meeting.
Lane* Lanes();
// Waits for the warp's other lanes, which must all come, from the same place. The last to come runs
// `act` (may be null) while the others wait.
void Meet(void (*act)(Lane*), Where where);

// The block's dynamic shared memory, aligned to 128 bytes and no more.
void* DynamicSharedMemory();
// Fails unless [at, at + bytes) is shared memory (or is not), aligned to 16 bytes.
void CheckShared(const void* at, size_t bytes, Where where);
void CheckGlobal(const void* at, size_t bytes, Where where);
// A row that the running thread gives to LoadMatrixX4.
void CheckMatrixRow(const void* row, Where where);

// cp.async of the running thread: what is copied appears only when it is waited for.
void AddCopy(void* to, const void* from, bool valid);
void CommitCopies();
void WaitCopies(int pending);

// Words of memory that processes share: stored and seen as a whole, in no order.
void StoreShared(uint64_t* to, uint64_t word);
uint64_t LoadShared(const uint64_t* from);
int64_t Nanoseconds();  // A steady clock.

// __syncwarp: a meeting that also orders memory.
void SyncWarp(Where where);

// Where the running thread stands: two accesses of one block are ordered by a barrier or, in one
// warp, by __syncwarp() between them; those of different blocks never are.
struct Moment {
  uint32_t block = 0;  // Of the launch.
  uint32_t barriers = 0, syncs = 0;
  int16_t thread = 0;
  bool may_write = true;  // It has waited for earlier kernels, if it must.
};
Moment Now();
uint64_t LaunchCount();
bool InKernel();  // On this thread.
// Whether threads may write the same byte of global memory without order, as padded rows do.
inline bool collisions_may_stand = false;
// How often all that was submitted has been waited for.
inline uint64_t times_idle = 0;
// Null, or called for every access that the emulator makes for a thread (emulated_races.cc).
using Note = void (*)(const void* at, size_t bytes, bool write, const void* pc);
inline Note note_access = nullptr;
// Bytes of device memory from `at` on, in the same allocation; 0 when it is none.
size_t DeviceBytesAt(const void* at);
bool InSharedMemory(const void* at, size_t bytes);

// The running thread has called GridDependencyWait().
void MarkDependencyWait();

}  // namespace conclave::worker::cuda::emulated
