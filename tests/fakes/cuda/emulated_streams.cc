// Streams, events and graphs of the emulated runtime.

#include <utility>

#include "emulated_runtime.h"
#include "worker/backend/cuda/platform.h"

struct CUgraph_st {
  std::vector<conclave::worker::cuda::emulated::Operation> operations;
};

struct CUgraphExec_st {
  std::shared_ptr<const std::vector<conclave::worker::cuda::emulated::Operation>> operations;
};

struct CUstream_st {
  bool blocking = true;  // For the default stream's work.
  std::shared_ptr<conclave::worker::cuda::emulated::Capture> capture;
};

struct CUevent_st {
  // Of the stream where it was recorded.
  std::shared_ptr<conclave::worker::cuda::emulated::Capture> capture;
  std::shared_ptr<std::chrono::steady_clock::time_point> time;
};

namespace conclave::worker::cuda::emulated {
namespace {

// Null for the default stream.
CUstream_st* Own(cudaStream_t stream) {
  return stream == cudaStreamLegacy || stream == cudaStreamPerThread ? nullptr : stream;
}

}  // namespace

Runtime& TheRuntime() {
  static Runtime& runtime = *new Runtime;
  return runtime;
}

std::shared_ptr<Capture> CaptureOf(cudaStream_t stream) {
  return Own(stream) == nullptr ? nullptr : stream->capture;
}

cudaError_t Submit(cudaStream_t stream, Operation operation) {
  Runtime& runtime = TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  if (const auto capture = CaptureOf(stream); capture != nullptr) {
    capture->operations.push_back(std::move(operation));
    return cudaSuccess;
  }
  for (CUstream_st* other : runtime.capturing) {
    if (Own(stream) != nullptr || !other->blocking) continue;
    other->capture->spoiled = true;
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
  ++times_idle;
}

cudaError_t CheckNotCapturing(bool even_relaxed) {
  Runtime& runtime = TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  cudaError_t error = cudaSuccess;
  for (CUstream_st* stream : runtime.capturing) {
    Capture& capture = *stream->capture;
    const bool mine = capture.thread == std::this_thread::get_id();
    if (capture.mode == cudaStreamCaptureModeRelaxed && !(even_relaxed && mine)) continue;
    if (capture.mode == cudaStreamCaptureModeThreadLocal && !mine) continue;
    capture.spoiled = true;
    error = cudaErrorStreamCaptureUnsupported;
  }
  return error;
}

cudaError_t DrainUnlessCapturing() {
  const cudaError_t error = CheckNotCapturing(true);
  if (error == cudaSuccess) Drain();
  return Result(error);
}

WithoutKernels::WithoutKernels() { TheRuntime().has_kernels = false; }
WithoutKernels::~WithoutKernels() { TheRuntime().has_kernels = true; }

void SubmitKernel(Start start, cudaStream_t stream) {
  if (!TheRuntime().has_kernels) return void(Result(cudaErrorNoKernelImageForDevice));
  const dim3 grid = start.grid, block = start.block;
  const bool fits = grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x <= 2147483647 &&
                    grid.y <= 65535 && grid.z <= 65535 && block.x > 0 && block.y > 0 &&
                    block.z > 0 && block.x <= 1024 && block.y <= 1024 && block.z <= 64 &&
                    uint64_t{block.x} * block.y * block.z <= 1024;
  if (!fits) return void(Result(cudaErrorInvalidConfiguration));
  if (start.shared_bytes > most_shared) return void(Result(cudaErrorInvalidValue));
  (void)Submit(stream, [start = std::move(start)] { RunKernel(start); });
}

void SubmitHost(std::function<void()> operation, cudaStream_t stream) {
  (void)Submit(stream, std::move(operation));
}

}  // namespace conclave::worker::cuda::emulated

namespace emulated = conclave::worker::cuda::emulated;
using emulated::Capture;
using emulated::CaptureOf;
using emulated::Drain;
using emulated::Operation;
using emulated::Result;
using emulated::Submit;
using emulated::TheRuntime;

extern "C" {

// Streams.
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  *stream = new CUstream_st{(flags & cudaStreamNonBlocking) == 0, nullptr};
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
  if (const auto capture = CaptureOf(stream); capture != nullptr) {
    capture->spoiled = true;
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
  event->capture = CaptureOf(stream);
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
  CUstream_st* own = emulated::Own(stream);
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
  CUstream_st* own = emulated::Own(stream);
  if (own == nullptr || own->capture != nullptr) return Result(cudaErrorIllegalState);
  own->capture = std::make_shared<Capture>();
  own->capture->origin = own;
  own->capture->mode = mode;
  own->capture->thread = std::this_thread::get_id();
  runtime.capturing.push_back(own);
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  emulated::Runtime& runtime = TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  *graph = nullptr;
  CUstream_st* own = emulated::Own(stream);
  if (own == nullptr || own->capture == nullptr) return Result(cudaErrorIllegalState);
  const std::shared_ptr<Capture> capture = own->capture;
  if (capture->origin != own) return Result(cudaErrorStreamCaptureUnmatched);
  for (CUstream_st* joined : std::vector<CUstream_st*>(runtime.capturing)) {
    if (joined->capture != capture) continue;
    joined->capture = nullptr;
    std::erase(runtime.capturing, joined);
  }
  if (capture->spoiled) return Result(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st{std::move(capture->operations)};
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  emulated::Runtime& runtime = TheRuntime();
  const std::lock_guard lock(runtime.mutex);
  const auto capture = CaptureOf(stream);
  *status = capture == nullptr ? cudaStreamCaptureStatusNone
            : capture->spoiled ? cudaStreamCaptureStatusInvalidated
                               : cudaStreamCaptureStatusActive;
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
