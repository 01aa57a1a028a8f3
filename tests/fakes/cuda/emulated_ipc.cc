// Memory of emulated devices that several processes have. As CUDA advises for what is shared, it is
// allocated in whole pieces of 2 MiB.

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "emulated_runtime.h"

namespace conclave::worker::cuda::emulated {
namespace {

struct Handle {
  size_t bytes = 0;
  char path[48] = "";  // Of the file, by the process that has it.
};
static_assert(sizeof(Handle) <= sizeof(cudaIpcMemHandle_t));

// With a page behind it that nobody may touch.
constexpr size_t kGuard = 4096;

void* Map(int file, size_t bytes, int flags = MAP_SHARED) {
  void* room = mmap(nullptr, bytes + kGuard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) return nullptr;
  void* memory = mmap(room, bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED, file, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

}  // namespace

void* MapShareable(size_t bytes) {
  const int file = memfd_create("emulated-device", MFD_CLOEXEC);
  if (file < 0) return nullptr;
  void* memory = ftruncate(file, static_cast<off_t>(bytes)) == 0 ? Map(file, bytes) : nullptr;
  if (memory == nullptr) {
    close(file);
  } else {
    TheRuntime().shareable[static_cast<const char*>(memory)] = file;
  }
  return memory;
}

bool UnmapShareable(const char* memory, size_t bytes) {
  Runtime& runtime = TheRuntime();
  const auto found = runtime.shareable.find(memory);
  if (found == runtime.shareable.end()) return false;
  close(found->second);
  runtime.shareable.erase(found);
  munmap(const_cast<char*>(memory), bytes + kGuard);
  return true;
}

}  // namespace conclave::worker::cuda::emulated

namespace emulated = conclave::worker::cuda::emulated;
using emulated::Result;

extern "C" {

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t* handle, void* memory) {
  emulated::Runtime& runtime = emulated::TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  const char* at = static_cast<const char*>(memory);
  const auto found = runtime.shareable.find(at);
  if (found == runtime.shareable.end()) return Result(cudaErrorInvalidValue);
  emulated::Handle made{.bytes = runtime.device.at(at)};
  std::snprintf(made.path, sizeof(made.path), "/proc/%d/fd/%d", getpid(), found->second);
  *handle = {};
  std::memcpy(handle->reserved, &made, sizeof(made));
  return cudaSuccess;
}

// EMULATED_CUDA_PEERS: "none", and this process reaches no peer's memory; "deaf", and what it
// stores there never arrives; "noisy", and it arrives as another number.
cudaError_t cudaIpcOpenMemHandle(void** memory, cudaIpcMemHandle_t handle, unsigned) {
  *memory = nullptr;
  const char* peers = std::getenv("EMULATED_CUDA_PEERS");
  const std::string_view manner = peers == nullptr ? "" : peers;
  if (manner == "none") return Result(cudaErrorPeerAccessUnsupported);
  emulated::Handle given;
  std::memcpy(&given, handle.reserved, sizeof(given));
  const int file = open(given.path, O_RDWR | O_CLOEXEC);
  if (file < 0) return Result(cudaErrorMapBufferObjectFailed);
  *memory = emulated::Map(file, given.bytes, manner == "deaf" ? MAP_PRIVATE : MAP_SHARED);
  close(file);
  if (*memory == nullptr) return Result(cudaErrorMapBufferObjectFailed);
  emulated::Runtime& runtime = emulated::TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  runtime.device[static_cast<const char*>(*memory)] = given.bytes;
  return cudaSuccess;
}

}  // extern "C"
