#include "worker/backend/cuda/cuda_memory.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "common/status.h"

namespace conclave::worker::cuda {
namespace {

class CudaBuffer : public Buffer {
 public:
  explicit CudaBuffer(DeviceMemory memory) : memory_(std::move(memory)) {}
  void* data() override { return memory_.get(); }

 private:
  DeviceMemory memory_;
};

double MiB(size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

}  // namespace

absl::Status StatusOf(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) return absl::OkStatus();
  if (error == cudaErrorMemoryAllocation) return ResourceExhausted("{}: out of GPU memory", what);
  return Internal("{}: {}", what, cudaGetErrorString(error));
}

absl::StatusOr<DeviceMemory> AllocateDevice(size_t bytes, std::string_view what) {
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, std::max<size_t>(bytes, 256));
  if (error == cudaSuccess) return DeviceMemory(data);
  (void)cudaGetLastError();  // It is told here, and not once more by what comes next.
  size_t free = 0, total = 0;
  if (error != cudaErrorMemoryAllocation || cudaMemGetInfo(&free, &total) != cudaSuccess) {
    return StatusOf(error, what);
  }
  return ResourceExhausted("no room for {:.1f} MiB of {}: the GPU has {:.1f} MiB, {:.1f} MiB free",
                           MiB(bytes), what, MiB(total), MiB(free));
}

absl::StatusOr<PinnedMemory> AllocatePinned(size_t bytes) {
  void* data = nullptr;
  const cudaError_t error = cudaMallocHost(&data, std::max<size_t>(bytes, 256));
  if (error == cudaSuccess) return PinnedMemory(data);
  (void)cudaGetLastError();
  return ResourceExhausted("no room for {:.1f} MiB of pinned host memory: {}", MiB(bytes),
                           cudaGetErrorString(error));
}

absl::StatusOr<Event> MakeEvent() {
  cudaEvent_t event = nullptr;
  RETURN_IF_ERROR(StatusOf(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "an event"));
  return Event(event);
}

absl::StatusOr<std::unique_ptr<Buffer>> MakeBuffer(size_t bytes, std::string_view what,
                                                   cudaStream_t stream) {
  ASSIGN_OR_RETURN(DeviceMemory memory, AllocateDevice(bytes, what));
  RETURN_IF_ERROR(
      StatusOf(cudaMemsetAsync(memory.get(), 0, std::max<size_t>(bytes, 1), stream), what));
  return std::make_unique<CudaBuffer>(std::move(memory));
}

absl::Status Scratch::Reserve(size_t bytes, cudaStream_t stream, bool* moved) {
  if (bytes <= bytes_) return absl::OkStatus();
  RETURN_IF_ERROR(StatusOf(cudaStreamSynchronize(stream), "scratch"));
  memory_.reset();
  const size_t room = std::max(bytes, bytes_ + bytes_ / 2);
  bytes_ = 0;
  ASSIGN_OR_RETURN(memory_, AllocateDevice(room, "scratch"));
  bytes_ = room;
  *moved = true;
  return absl::OkStatus();
}

absl::StatusOr<void*> Staging::Next(size_t bytes) {
  slot_ = 1 - slot_;
  Slot& slot = slots_[slot_];
  if (!slot.done) {
    ASSIGN_OR_RETURN(slot.done, MakeEvent());
  } else {
    RETURN_IF_ERROR(StatusOf(cudaEventSynchronize(slot.done.get()), "a copy to the GPU"));
  }
  if (slot.bytes < bytes) {
    slot.bytes = 0;
    const size_t room = std::bit_ceil(bytes);
    ASSIGN_OR_RETURN(slot.memory, AllocatePinned(room));
    slot.bytes = room;
  }
  return slot.memory.get();
}

absl::Status Staging::CopyTo(void* device, size_t bytes, cudaStream_t stream) {
  Slot& slot = slots_[slot_];
  RETURN_IF_ERROR(
      StatusOf(cudaMemcpyAsync(device, slot.memory.get(), bytes, cudaMemcpyHostToDevice, stream),
               "a copy to the GPU"));
  return StatusOf(cudaEventRecord(slot.done.get(), stream), "a copy to the GPU");
}

}  // namespace conclave::worker::cuda
