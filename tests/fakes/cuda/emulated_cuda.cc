// The CUDA runtime's functions, for the emulator. Work that is submitted to a stream runs when
// someone waits for it, in the order in which all of it was submitted: so what a program changes
// or reads without having waited shows.

#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "worker/backend/cuda/platform.h"

using Operation = std::function<void()>;

struct CUgraph_st {
  std::vector<Operation> operations;
};

struct CUgraphExec_st {
  std::shared_ptr<const std::vector<Operation>> operations;
};

// What a stream captures: the graph, and whether something has spoiled it.
struct EmulatedCapture {
  std::unique_ptr<CUgraph_st> graph = std::make_unique<CUgraph_st>();
  CUstream_st* origin = nullptr;
  bool relaxed = false;
  cudaError_t spoiled = cudaSuccess;
};

struct CUstream_st {
  std::shared_ptr<EmulatedCapture> capture;
};

struct CUevent_st {
  std::shared_ptr<EmulatedCapture> capture;  // Of the stream where it was recorded.
  std::shared_ptr<std::chrono::steady_clock::time_point> time;
};

namespace conclave::worker::cuda::emulated {
namespace {

constexpr size_t kMemory = size_t{1} << 30;
constexpr size_t kMostDefaultShared = 48 * 1024;

// All that streams share.
struct Runtime {
  std::recursive_mutex mutex;
  std::deque<Operation> pending;
  std::map<const char*, size_t> device, pinned;  // Memory by its first byte.
  size_t used = 0;
  std::vector<CUstream_st*> capturing;
};

Runtime& TheRuntime() {
  static Runtime& runtime = *new Runtime;
  return runtime;
}

thread_local cudaError_t last_error = cudaSuccess;

cudaError_t Result(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

// Null for the default stream.
CUstream_st* Own(cudaStream_t stream) {
  return stream == cudaStreamLegacy || stream == cudaStreamPerThread ? nullptr : stream;
}

cudaError_t Submit(cudaStream_t stream, Operation operation) {
  Runtime& runtime = TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  if (CUstream_st* own = Own(stream); own != nullptr && own->capture != nullptr) {
    own->capture->graph->operations.push_back(std::move(operation));
    return cudaSuccess;
  }
  if (Own(stream) == nullptr && !runtime.capturing.empty()) {
    for (CUstream_st* other : runtime.capturing) {
      other->capture->spoiled = cudaErrorStreamCaptureInvalidated;
    }
    return Result(cudaErrorStreamCaptureImplicit);
  }
  runtime.pending.push_back(std::move(operation));
  return cudaSuccess;
}

void Drain() {
  Runtime& runtime = TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  while (!runtime.pending.empty()) {
    const Operation operation = std::move(runtime.pending.front());
    runtime.pending.pop_front();
    operation();
  }
}

// What may not be called while a stream captures (unless it is relaxed) spoils the capture.
cudaError_t CheckNotCapturing(bool even_relaxed) {
  Runtime& runtime = TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  cudaError_t error = cudaSuccess;
  for (CUstream_st* stream : runtime.capturing) {
    if (stream->capture->relaxed && !even_relaxed) continue;
    stream->capture->spoiled = cudaErrorStreamCaptureInvalidated;
    error = cudaErrorStreamCaptureUnsupported;
  }
  return error;
}

cudaError_t DrainUnlessCapturing() {
  const cudaError_t error = CheckNotCapturing(true);
  if (error == cudaSuccess) Drain();
  return Result(error);
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
  const bool captured = Own(stream) != nullptr && Own(stream)->capture != nullptr;
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
  *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
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
  std::free(memory);
  return cudaSuccess;
}

}  // namespace

size_t DeviceBytesAt(const void* at) {
  const auto& blocks = TheRuntime().device;  // Only read here, by the thread that holds the mutex.
  const char* byte = static_cast<const char*>(at);
  auto next = blocks.upper_bound(byte);
  if (next == blocks.begin()) return 0;
  --next;
  return byte < next->first + next->second ? static_cast<size_t>(next->first + next->second - byte)
                                           : 0;
}

void SubmitKernel(Start start, cudaStream_t stream) {
  const dim3 grid = start.grid, block = start.block;
  const bool fits = grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x <= 2147483647 &&
                    grid.y <= 65535 && grid.z <= 65535 && block.x > 0 && block.y > 0 &&
                    block.z > 0 && block.x <= 1024 && block.y <= 1024 && block.z <= 64 &&
                    uint64_t{block.x} * block.y * block.z <= 1024;
  if (!fits) return void(Result(cudaErrorInvalidConfiguration));
  if (start.shared_bytes > kMostShared) return void(Result(cudaErrorInvalidValue));
  (void)Submit(stream, [start = std::move(start)] { RunKernel(start); });
}

void SubmitHost(std::function<void()> operation, cudaStream_t stream) {
  (void)Submit(stream, std::move(operation));
}

}  // namespace conclave::worker::cuda::emulated

namespace emulated = conclave::worker::cuda::emulated;
using emulated::CheckNotCapturing;
using emulated::Drain;
using emulated::DrainUnlessCapturing;
using emulated::Own;
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
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  return Result(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
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
  if (device != 0) return Result(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "emulated");
  properties->major = 9;
  properties->multiProcessorCount = 4;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->totalGlobalMem = emulated::kMemory;
  properties->sharedMemPerBlock = emulated::kMostDefaultShared;
  properties->sharedMemPerBlockOptin = emulated::kMostShared;
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
      *value = emulated::kMostShared;
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

// Streams.
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st;
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Drain();
  emulated::Runtime& runtime = TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  std::erase(runtime.capturing, stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  emulated::Runtime& runtime = TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  if (CUstream_st* own = Own(stream); own != nullptr && own->capture != nullptr) {
    own->capture->spoiled = cudaErrorStreamCaptureInvalidated;
    return Result(cudaErrorStreamCaptureUnsupported);
  }
  Drain();
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) { return cudaStreamSynchronize(stream); }
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return Submit(stream, [=] { function(data); });
}

// Events.
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  emulated::Runtime& runtime = TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  CUstream_st* own = Own(stream);
  event->capture = own == nullptr ? nullptr : own->capture;
  event->time = std::make_shared<std::chrono::steady_clock::time_point>();
  return Submit(stream, [time = event->time] { *time = std::chrono::steady_clock::now(); });
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  emulated::Runtime& runtime = TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  if (event->capture != nullptr) return Result(cudaErrorCapturedEvent);
  Drain();
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return cudaEventSynchronize(event); }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  emulated::Runtime& runtime = TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  const std::chrono::steady_clock::time_point never;
  if (from->time == nullptr || to->time == nullptr) return Result(cudaErrorInvalidResourceHandle);
  if (*from->time == never || *to->time == never) return Result(cudaErrorNotReady);
  *milliseconds = std::chrono::duration<float, std::milli>(*to->time - *from->time).count();
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  emulated::Runtime& runtime = TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  CUstream_st* own = Own(stream);
  if (event->capture != nullptr && own != nullptr && own->capture == nullptr) {
    own->capture = event->capture;  // The stream joins the capture.
    runtime.capturing.push_back(own);
  }
  return cudaSuccess;
}

// Capture and graphs.
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  emulated::Runtime& runtime = TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  CUstream_st* own = Own(stream);
  if (own == nullptr || own->capture != nullptr) return Result(cudaErrorIllegalState);
  own->capture = std::make_shared<EmulatedCapture>();
  own->capture->origin = own;
  own->capture->relaxed = mode == cudaStreamCaptureModeRelaxed;
  runtime.capturing.push_back(own);
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  emulated::Runtime& runtime = TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  *graph = nullptr;
  CUstream_st* own = Own(stream);
  if (own == nullptr || own->capture == nullptr) return Result(cudaErrorIllegalState);
  const std::shared_ptr<EmulatedCapture> capture = own->capture;
  if (capture->origin != own) return Result(cudaErrorStreamCaptureUnmatched);
  for (CUstream_st* joined : std::vector<CUstream_st*>(runtime.capturing)) {
    if (joined->capture != capture) continue;
    joined->capture = nullptr;
    std::erase(runtime.capturing, joined);
  }
  if (capture->spoiled != cudaSuccess) return Result(capture->spoiled);
  *graph = capture->graph.release();
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  emulated::Runtime& runtime = TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  CUstream_st* own = Own(stream);
  const bool captures = own != nullptr && own->capture != nullptr;
  *status = captures ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = new CUgraphExec_st{std::make_shared<const std::vector<Operation>>(graph->operations)};
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  return Submit(stream, [operations = exec->operations] {
    for (const Operation& operation : *operations) operation();
  });
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

}  // extern "C"
