#pragma once

// What the functions of the emulated runtime share. Work that is submitted to a stream runs when
// someone waits for any stream, in the order in which all of it was submitted: so what a program
// changes or reads without having waited shows. One operation runs at a time, with the mutex held:
// it must not wait for another thread.

#include <cuda_runtime.h>

#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace conclave::worker::cuda::emulated {

using Operation = std::function<void()>;

// What a stream captures, and what has spoiled it.
struct Capture {
  std::vector<Operation> operations;
  cudaStream_t origin = nullptr;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;
  bool spoiled = false;
};

inline constexpr size_t kMemory = size_t{1} << 30;  // Of the device, in bytes.

// All that streams share, by the mutex.
struct Runtime {
  std::recursive_mutex mutex;
  std::deque<Operation> pending;
  std::map<const char*, size_t> device, pinned;  // Memory by its first byte.
  size_t used = 0;
  std::map<const char*, int> shareable;  // Of `device`: what processes may share, by file.
  std::vector<cudaStream_t> capturing;
  bool has_kernels = true;  // One thread's tests change it.
};
Runtime& TheRuntime();

// Memory of whole pieces of this size can be shared with other processes (emulated_ipc.cc).
inline constexpr size_t kShareablePiece = size_t{2} << 20;
void* MapShareable(size_t bytes);  // Null: no room.
// Whether it was.
bool UnmapShareable(const char* memory, size_t bytes);

// Keeps an error for cudaGetLastError().
cudaError_t Result(cudaError_t error);
// The graph that the stream captures, or null.
std::shared_ptr<Capture> CaptureOf(cudaStream_t stream);
// To the stream, or to the graph that it captures.
cudaError_t Submit(cudaStream_t stream, Operation operation);
// Runs all that is pending.
void Drain();
// What may not be called while this thread captures (unless the capture is relaxed) spoils the
// capture.
cudaError_t CheckNotCapturing(bool even_relaxed);
cudaError_t DrainUnlessCapturing();

}  // namespace conclave::worker::cuda::emulated
