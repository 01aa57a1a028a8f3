// The emulated runtime's device, its memory, and its errors.

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "emulated_runtime.h"
#include "worker/backend/cuda/platform.h"

namespace conclave::worker::cuda::emulated {
namespace {

constexpr size_t kMostDefaultShared = 48 * 1024;

thread_local cudaError_t last_error = cudaSuccess;
thread_local int current_device = 0;

// As many as the fake driver counts (tests/fakes/cuda_parts), all alike and of one memory: a
// process uses one of them.
int DeviceCount() {
  const char* told = std::getenv("FAKE_CUDA_DEVICES");
  return told == nullptr ? 1 : std::max(1, std::atoi(told));
}

enum class Place { kOther, kWithin, kAcross };

// Whether [at, at + bytes) lies in one of these blocks of memory.
Place Find(const std::map<const char*, size_t>& blocks, const void* at, size_t bytes) {
  const char* from = static_cast<const char*>(at);
  auto next = blocks.upper_bound(from);
  if (next == blocks.begin()) return Place::kOther;
  --next;
  if (from >= next->first + next->second) return Place::kOther;
  return from + bytes <= next->first + next->second ? Place::kWithin : Place::kAcross;
}

// Whether memory is of the kind that a copy names.
bool RightPlace(const void* at, size_t bytes, bool device) {
  const Place place = Find(TheRuntime().device, at, bytes);
  return device ? place == Place::kWithin : place == Place::kOther;
}

bool ToDevice(cudaMemcpyKind kind, const void* to) {
  if (kind == cudaMemcpyDefault) return Find(TheRuntime().device, to, 1) != Place::kOther;
  return kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
}

bool FromDevice(cudaMemcpyKind kind, const void* from) {
  if (kind == cudaMemcpyDefault) return Find(TheRuntime().device, from, 1) != Place::kOther;
  return kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
}

// Rows of a copy.
struct Rows {
  size_t to_pitch = 0, from_pitch = 0, width = 0, height = 1;

  static size_t Span(size_t pitch, size_t width, size_t height) {
    return height == 0 ? 0 : pitch * (height - 1) + width;
  }
};

cudaError_t Copy(void* to, const void* from, Rows rows, cudaMemcpyKind kind, cudaStream_t stream) {
  Runtime& runtime = TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  if (rows.width == 0 || rows.height == 0) return cudaSuccess;
  const size_t to_bytes = Rows::Span(rows.to_pitch, rows.width, rows.height);
  const size_t from_bytes = Rows::Span(rows.from_pitch, rows.width, rows.height);
  const bool to_device = ToDevice(kind, to), from_device = FromDevice(kind, from);
  if (!RightPlace(to, to_bytes, to_device) || !RightPlace(from, from_bytes, from_device)) {
    return Result(cudaErrorInvalidValue);
  }
  const auto copy = [to, rows](const void* source) {
    for (size_t i = 0; i < rows.height; ++i) {
      std::memmove(static_cast<char*>(to) + i * rows.to_pitch,
                   static_cast<const char*>(source) + i * rows.from_pitch, rows.width);
    }
  };
  const bool captured = CaptureOf(stream) != nullptr;
  // Pageable memory is read before the call returns, and is written before it returns.
  if (!captured && !from_device && Find(runtime.pinned, from, from_bytes) == Place::kOther) {
    const char* bytes = static_cast<const char*>(from);
    return Submit(
        stream, [copy, held = std::vector<char>(bytes, bytes + from_bytes)] { copy(held.data()); });
  }
  const cudaError_t error = Submit(stream, [copy, from] { copy(from); });
  if (error == cudaSuccess && !captured && !to_device &&
      Find(runtime.pinned, to, to_bytes) == Place::kOther) {
    Drain();
  }
  return error;
}

cudaError_t Take(std::map<const char*, size_t>& blocks, void** memory, size_t bytes) {
  const bool shareable = &blocks == &TheRuntime().device && bytes % kShareablePiece == 0;
  *memory = shareable ? MapShareable(bytes) : std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (*memory == nullptr) return cudaErrorMemoryAllocation;
  std::memset(*memory, 0xff, bytes);
  blocks[static_cast<const char*>(*memory)] = bytes;
  return cudaSuccess;
}

cudaError_t GiveBack(std::map<const char*, size_t>& blocks, void* memory, size_t* bytes) {
  const auto found = blocks.find(static_cast<const char*>(memory));
  if (found == blocks.end()) return cudaErrorInvalidValue;
  *bytes = found->second;
  blocks.erase(found);
  if (!UnmapShareable(static_cast<const char*>(memory), *bytes)) std::free(memory);
  return cudaSuccess;
}

}  // namespace

cudaError_t Result(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

size_t DeviceBytesAt(const void* at) {
  const auto& blocks = TheRuntime().device;  // Only read here, by the thread that holds the mutex.
  const char* byte = static_cast<const char*>(at);
  auto next = blocks.upper_bound(byte);
  if (next == blocks.begin()) return 0;
  --next;
  return byte < next->first + next->second ? static_cast<size_t>(next->first + next->second - byte)
                                           : 0;
}

}  // namespace conclave::worker::cuda::emulated

namespace emulated = conclave::worker::cuda::emulated;
using emulated::CheckNotCapturing;
using emulated::Drain;
using emulated::DrainUnlessCapturing;
using emulated::Result;
using emulated::Submit;
using emulated::TheRuntime;

extern "C" {

// Errors.
cudaError_t cudaGetLastError() { return std::exchange(emulated::last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return emulated::last_error; }
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaSuccess ? "cudaSuccess" : "an emulated error";
}
cudaError_t cudaFuncGetName(const char** name, const void*) {
  *name = "emulated";
  return cudaSuccess;
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    case cudaErrorStreamCaptureImplicit:
      return "operation would make the legacy stream depend on a capturing blocking stream";
    default:
      return "an emulated error";
  }
}

// The device.
cudaError_t cudaGetDeviceCount(int* count) {
  *count = emulated::DeviceCount();
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = emulated::current_device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= emulated::DeviceCount()) return Result(cudaErrorInvalidDevice);
  emulated::current_device = device;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= emulated::DeviceCount()) return Result(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "emulated");
  properties->major = 9;
  properties->multiProcessorCount = 4;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->totalGlobalMem = emulated::kMemory;
  properties->sharedMemPerBlock = emulated::kMostDefaultShared;
  properties->sharedMemPerBlockOptin = emulated::most_shared;
  properties->sharedMemPerMultiprocessor = emulated::kMostShared + 1024;
  properties->l2CacheSize = 1 << 20;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties;
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, device)) return error;
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      break;
    case cudaDevAttrL2CacheSize:
      *value = properties.l2CacheSize;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(emulated::most_shared);
      break;
    default:
      return Result(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return DrainUnlessCapturing(); }
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }

// Memory.
cudaError_t cudaMalloc(void** memory, size_t bytes) {
  if (const cudaError_t error = CheckNotCapturing(false)) return Result(error);
  emulated::Runtime& runtime = TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  *memory = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (bytes > emulated::kMemory - runtime.used) return Result(cudaErrorMemoryAllocation);
  const cudaError_t error = emulated::Take(runtime.device, memory, bytes);
  if (error == cudaSuccess) runtime.used += bytes;
  return Result(error);
}
cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  if (const cudaError_t error = CheckNotCapturing(false)) return Result(error);
  Drain();
  emulated::Runtime& runtime = TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  size_t bytes = 0;
  const cudaError_t error = emulated::GiveBack(runtime.device, memory, &bytes);
  runtime.used -= bytes;
  return Result(error);
}
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) {
  if (const cudaError_t error = CheckNotCapturing(false)) return Result(error);
  emulated::Runtime& runtime = TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  *memory = nullptr;
  return bytes == 0 ? cudaSuccess : Result(emulated::Take(runtime.pinned, memory, bytes));
}
cudaError_t cudaMallocHost(void** memory, size_t bytes) { return cudaHostAlloc(memory, bytes, 0); }
cudaError_t cudaFreeHost(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  if (const cudaError_t error = CheckNotCapturing(false)) return Result(error);
  Drain();
  emulated::Runtime& runtime = TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  size_t bytes = 0;
  return Result(emulated::GiveBack(runtime.pinned, memory, &bytes));
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  emulated::Runtime& runtime = TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  *total = emulated::kMemory;
  *free = emulated::kMemory - runtime.used;
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return emulated::Copy(to, from, {bytes, bytes, bytes, 1}, kind, stream);
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  if (width > to_pitch || width > from_pitch) return Result(cudaErrorInvalidPitchValue);
  return emulated::Copy(to, from, {to_pitch, from_pitch, width, height}, kind, stream);
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
  return error == cudaSuccess ? DrainUnlessCapturing() : error;
}
cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                         size_t width, size_t height, cudaMemcpyKind kind) {
  const cudaError_t error =
      cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, width, height, kind, nullptr);
  return error == cudaSuccess ? DrainUnlessCapturing() : error;
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  emulated::Runtime& runtime = TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  if (bytes > 0 && !emulated::RightPlace(to, bytes, true)) return Result(cudaErrorInvalidValue);
  return Submit(stream, [=] { std::memset(to, value, bytes); });
}
cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  return cudaMemsetAsync(to, value, bytes, nullptr);
}

}  // extern "C"
