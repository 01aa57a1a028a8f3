#include "emulated_block.h"

#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "common/check.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// All __shared__ arrays lie in this section (cuda_runtime.h); one variable, so that it exists.
static __attribute__((section("emulated_shared"), used)) char section_exists[128];
extern char __start_emulated_shared[], __stop_emulated_shared[];

// Saves the running stack's registers on it and its top in *from, and goes on where `to` was saved.
extern "C" void EmulatedSwitchStack(void** from, void* to);
asm(R"(
  .text
  .type EmulatedSwitchStack, @function
  .globl EmulatedSwitchStack
EmulatedSwitchStack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size EmulatedSwitchStack, . - EmulatedSwitchStack
)");

namespace conclave::worker::cuda::emulated {
namespace {

constexpr size_t kStackBytes = size_t{256} * 1024;
constexpr size_t kGuardBytes = 4096;
constexpr uint32_t kAllLanes = ~uint32_t{0};
constexpr size_t kSharedOffset = 128;  // Of the base that blocks see: not aligned to 256.

struct Copy {
  void* to = nullptr;
  const void* from = nullptr;  // Null: zeros.
};

// A stack, and where it stopped. The launching thread has one too, without memory of its own.
struct Fiber {
  void* top = nullptr;  // Saved.
  char* stack = nullptr;
  const void* bottom = nullptr;  // For the sanitizer.
  size_t bytes = 0;
  uint3 index{};
  int warp = 0, lane = 0;
  bool waited = false;                   // Called GridDependencyWait().
  std::deque<std::vector<Copy>> groups;  // Committed.
  std::vector<Copy> open;
};

struct Warp {
  uint32_t live = 0, runnable = 0, arrived = 0;
  Where where;
  int turn = 0;
  uint32_t syncs = 0;  // __syncwarp() so far.
  Lane lanes[2][32];
};

// The block that runs. One launch at a time (launch_mutex).
struct Block {
  const Start* start = nullptr;
  std::vector<std::unique_ptr<Fiber>> fibers;
  Warp warps[32];
  uint32_t runnable_warps = 0;
  int live = 0, waiting = 0;
  Where barrier;
  bool falling = false;  // The order in which threads run.
  bool waited = false;   // Some thread called GridDependencyWait().
  uint64_t launches = 0;
  uint32_t serial = 0;  // Of the launch.
  uint32_t barriers = 0;
  char* shared = nullptr;
  Fiber launcher;
};

std::mutex launch_mutex;
Block block;
Fiber* running = nullptr;
thread_local bool in_kernel = false;

void FinishSwitch([[maybe_unused]] void* fake) {
#ifdef __SANITIZE_ADDRESS__
  const void* bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(fake, &bottom, &bytes);
  if (block.launcher.bottom == nullptr)
    block.launcher.bottom = bottom, block.launcher.bytes = bytes;
#endif
}

void SwitchTo(Fiber* to) {
  if (to == running) return;
  Fiber* from = running;
  running = to;
  threadIdx = to->index;
  void* fake = nullptr;
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&fake, to->bottom, to->bytes);
#endif
  EmulatedSwitchStack(&from->top, to->top);
  FinishSwitch(fake);
}

int Pick(uint32_t mask) { return block.falling ? 31 - __builtin_clz(mask) : __builtin_ctz(mask); }

[[noreturn]] void FailDeadlock() {
  std::string text = "threads wait for others that never come:";
  for (const auto& fiber : block.fibers) {
    const Warp& warp = block.warps[fiber->warp];
    if ((warp.live >> fiber->lane & 1) == 0 || fiber->lane % 8 != 0) continue;
    const bool in_warp = (warp.arrived >> fiber->lane & 1) != 0;
    const Where& where = in_warp ? warp.where : block.barrier;
    text += "\n  warp " + std::to_string(fiber->warp) + " lane " + std::to_string(fiber->lane) +
            (in_warp ? " in an operation of its warp, line " : " at a barrier, line ") +
            std::to_string(where.line());
  }
  Fail(text.c_str(), block.barrier);
}

// Goes on with the next thread that can run; this one goes on when it is its turn again.
void RunNext() {
  uint32_t warp = running->warp;
  if (block.warps[warp].runnable == 0) {
    if (block.runnable_warps == 0) {
      if (block.live > 0) FailDeadlock();
      return SwitchTo(&block.launcher);
    }
    warp = Pick(block.runnable_warps);
  }
  SwitchTo(block.fibers[warp * 32 + Pick(block.warps[warp].runnable)].get());
}

void Stop(Warp& warp, const Fiber& fiber) {
  warp.runnable &= ~(1U << fiber.lane);
  if (warp.runnable == 0) block.runnable_warps &= ~(1U << fiber.warp);
}

void OpenBarrier() {
  block.waiting = 0;
  ++block.barriers;
  block.falling = !block.falling;
  for (size_t w = 0; w * 32 < block.fibers.size(); ++w) {
    block.warps[w].runnable = block.warps[w].live;
    if (block.warps[w].live != 0) block.runnable_warps |= 1U << w;
  }
}

bool Same(const Where& a, const Where& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0);
}

void Tell(const void* at, bool write, const void* pc) {
  if (note_access != nullptr) note_access(at, 16, write, pc);
}

void Perform(const std::vector<Copy>& copies, const void* pc) {
  for (const Copy& copy : copies) {
    Tell(copy.to, true, pc);
    if (copy.from == nullptr) {
      std::memset(copy.to, 0, 16);
    } else {
      std::memcpy(copy.to, copy.from, 16);
    }
  }
}

// Where every fiber begins; never returns, for the stack's first frame has no caller.
#ifdef __SANITIZE_ADDRESS__
__attribute__((no_sanitize_address))
#endif
void ThreadMain() {
  FinishSwitch(nullptr);
  block.start->thread();
  WaitCopies(0);
  Warp& warp = block.warps[running->warp];
  if (warp.arrived != 0) Fail("a thread ends while lanes of its warp wait for it", warp.where);
  Stop(warp, *running);
  warp.live &= ~(1U << running->lane);
  if (--block.live > 0 && block.waiting == block.live) OpenBarrier();
  RunNext();
  std::abort();
}

std::unique_ptr<Fiber> MakeFiber() {
  auto fiber = std::make_unique<Fiber>();
  void* memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(memory != MAP_FAILED);
  CHECK(mprotect(memory, kGuardBytes, PROT_NONE) == 0);
  fiber->stack = static_cast<char*>(memory);
  fiber->bottom = fiber->stack + kGuardBytes;
  fiber->bytes = kStackBytes - kGuardBytes;
  return fiber;
}

// The stack as EmulatedSwitchStack leaves it, about to return into ThreadMain.
void Prepare(Fiber& fiber) {
#ifdef __SANITIZE_ADDRESS__
  // The thread before never returned: what its last frames poisoned, near the top, still is.
  constexpr size_t kLastFrames = 8192;
  ASAN_UNPOISON_MEMORY_REGION(fiber.stack + kStackBytes - kLastFrames, kLastFrames);
#endif
  void** top = reinterpret_cast<void**>(fiber.stack + kStackBytes);
  top[-1] = nullptr;
  top[-2] = reinterpret_cast<void*>(&ThreadMain);
  std::fill(top - 8, top - 2, nullptr);
  fiber.top = top - 8;
  fiber.groups.clear();
  fiber.open.clear();
  fiber.waited = false;
}

// Fibers are kept; a block has the first `threads` of them.
std::vector<std::unique_ptr<Fiber>> spare_fibers;

void PrepareShared(size_t bytes) {
  if (block.shared == nullptr) {
    block.shared = static_cast<char*>(std::aligned_alloc(1024, 1024 * 256)) + kSharedOffset;
  }
#ifdef __SANITIZE_ADDRESS__
  ASAN_UNPOISON_MEMORY_REGION(block.shared, bytes);
  ASAN_POISON_MEMORY_REGION(block.shared + bytes, kMostShared + 256 - bytes);
#endif
  std::memset(block.shared, 0xff, bytes);
  std::memset(__start_emulated_shared, 0xff, __stop_emulated_shared - __start_emulated_shared);
}

void RunBlock(const Start& start, int threads) {
  PrepareShared(start.shared_bytes);
  std::fill(block.warps, block.warps + (threads + 31) / 32, Warp{});
  block.waited = false;
  ++block.serial;
  block.barriers = 0;
  block.waiting = 0;
  block.live = threads;
  block.runnable_warps = 0;
  for (int i = 0; i < threads; ++i) {
    Fiber& fiber = *block.fibers[i];
    Prepare(fiber);
    fiber.index = {i % start.block.x, i / start.block.x % start.block.y,
                   i / start.block.x / start.block.y};
    block.warps[fiber.warp].live |= 1U << fiber.lane;
    block.warps[fiber.warp].runnable |= 1U << fiber.lane;
    block.runnable_warps |= 1U << fiber.warp;
  }
  running = &block.launcher;
  in_kernel = true;
  SwitchTo(block.fibers[block.falling ? threads - 1 : 0].get());
  in_kernel = false;
  if (start.early && !block.waited) {
    Fail("a kernel that may start early never calls GridDependencyWait()", Where::current());
  }
}

bool InShared(const void* at, size_t bytes) {
  const char* from = static_cast<const char*>(at);
  return (from >= block.shared && from + bytes <= block.shared + block.start->shared_bytes) ||
         (from >= __start_emulated_shared && from + bytes <= __stop_emulated_shared);
}

}  // namespace

void RunKernel(const Start& start) {
  const std::lock_guard lock(launch_mutex);
  static bool falling = false;
  const int threads = static_cast<int>(start.block.x * start.block.y * start.block.z);
  while (static_cast<int>(block.fibers.size()) > threads) {
    spare_fibers.push_back(std::move(block.fibers.back()));
    block.fibers.pop_back();
  }
  while (static_cast<int>(block.fibers.size()) < threads) {
    if (spare_fibers.empty()) spare_fibers.push_back(MakeFiber());
    block.fibers.push_back(std::move(spare_fibers.back()));
    spare_fibers.pop_back();
    block.fibers.back()->warp = static_cast<int>(block.fibers.size() - 1) / 32;
    block.fibers.back()->lane = static_cast<int>(block.fibers.size() - 1) % 32;
  }
  block.start = &start;
  ++block.launches;
  block.serial = 0;
  block.launcher.bottom = nullptr;
  blockDim = start.block;
  gridDim = start.grid;
  falling = !falling && !start.together;
  const uint64_t blocks = uint64_t{start.grid.x} * start.grid.y * start.grid.z;
  for (uint64_t i = 0; i < blocks; ++i) {
    const uint64_t at = falling ? blocks - 1 - i : i;
    blockIdx = {static_cast<unsigned>(at % start.grid.x),
                static_cast<unsigned>(at / start.grid.x % start.grid.y),
                static_cast<unsigned>(at / start.grid.x / start.grid.y)};
    block.falling = falling != (i % 2 == 1);
    RunBlock(start, threads);
  }
}

void Fail(const char* message, Where where) {
  std::fprintf(stderr,
               "emulated CUDA: %s\n  block (%u, %u, %u) thread (%u, %u, %u)\n  %s:%u in %s\n",
               message, blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z,
               where.file_name(), static_cast<unsigned>(where.line()), where.function_name());
  std::abort();
}

void Barrier(Where where) {
  if (block.waiting > 0 && !Same(block.barrier, where)) {
    Fail("threads of a block wait at different barriers", where);
  }
  block.barrier = where;
  if (++block.waiting == block.live) {
    OpenBarrier();
    return;
  }
  Stop(block.warps[running->warp], *running);
  RunNext();
}

int LaneIndex() { return running->lane; }

Lane* Lanes() {
  Warp& warp = block.warps[running->warp];
  return warp.lanes[warp.turn];
}

void Meet(void (*act)(Lane*), Where where) {
  Warp& warp = block.warps[running->warp];
  if (warp.live != kAllLanes) Fail("an operation of the warp without all of its 32 lanes", where);
  if (warp.arrived != 0 && !Same(warp.where, where)) {
    std::fprintf(stderr, "emulated CUDA: other lanes wait in line %u\n",
                 static_cast<unsigned>(warp.where.line()));
    Fail("lanes of a warp have diverged", where);
  }
  warp.where = where;
  warp.arrived |= 1U << running->lane;
  if (warp.arrived == kAllLanes) {
    if (act != nullptr) act(warp.lanes[warp.turn]);
    warp.turn ^= 1;
    warp.arrived = 0;
    warp.runnable = kAllLanes;
    block.runnable_warps |= 1U << running->warp;
    return;
  }
  Stop(warp, *running);
  RunNext();
}

void SyncWarp(Where where) {
  Meet([](Lane*) { ++block.warps[running->warp].syncs; }, where);
}

Moment Now() {
  return {block.serial, block.barriers, block.warps[running->warp].syncs,
          static_cast<int16_t>(running->warp * 32 + running->lane),
          running->waited || !block.start->early};
}

bool InKernel() { return in_kernel; }

uint64_t LaunchCount() { return block.launches; }

bool InSharedMemory(const void* at, size_t bytes) { return InShared(at, bytes); }

void* DynamicSharedMemory() { return block.shared; }

void CheckShared(const void* at, size_t bytes, Where where) {
  if (!InShared(at, bytes)) Fail("an address that is not in the block's shared memory", where);
  if (reinterpret_cast<uintptr_t>(at) % 16 != 0) {
    Fail("an address of shared memory that is not aligned to 16", where);
  }
}

void CheckMatrixRow(const void* row, Where where) {
  CheckShared(row, 16, where);
  Tell(row, false, __builtin_return_address(0));
}

void CheckGlobal(const void* at, size_t bytes, Where where) {
  if (InShared(at, bytes)) Fail("an address of shared memory where it must be global", where);
  if (reinterpret_cast<uintptr_t>(at) % 16 != 0) Fail("an address not aligned to 16", where);
}

void AddCopy(void* to, const void* from, bool valid) {
  Tell(to, true, __builtin_return_address(0));
  if (valid) Tell(from, false, __builtin_return_address(0));
  std::memset(to, 0xff, 16);
  running->open.push_back({to, valid ? from : nullptr});
}

void CommitCopies() {
  running->groups.push_back(std::move(running->open));
  running->open.clear();
}

void WaitCopies(int pending) {
  while (static_cast<int>(running->groups.size()) > pending) {
    Perform(running->groups.front(), __builtin_return_address(0));
    running->groups.pop_front();
  }
}

void StoreShared(uint64_t* to, uint64_t word) {
  static const char* const peers = std::getenv("EMULATED_CUDA_PEERS");
  static const bool noisy = peers != nullptr && std::strcmp(peers, "noisy") == 0;
  __atomic_store_n(to, noisy ? word ^ uint64_t{1} << 50 : word, __ATOMIC_RELAXED);
}

// Whoever looks again and again lets the others run.
uint64_t LoadShared(const uint64_t* from) {
  static uint32_t loads = 0;
  if (++loads % 64 == 0) sched_yield();
  return __atomic_load_n(from, __ATOMIC_RELAXED);
}

size_t SharedOfEnvironment() {
  const char* told = std::getenv("EMULATED_CUDA_SHARED");
  return told == nullptr ? kMostShared
                         : std::min<size_t>(kMostShared, std::strtoul(told, nullptr, 10));
}

int64_t Nanoseconds() {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void MarkDependencyWait() { block.waited = running->waited = true; }

}  // namespace conclave::worker::cuda::emulated
