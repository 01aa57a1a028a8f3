#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <memory>
#include <string_view>
#include <type_traits>

#include "worker/backend/cuda/platform.h"
#include "worker/backend/device.h"

namespace conclave::worker::cuda {

// kOk, kResourceExhausted for memory, or kInternal: "what: what CUDA says".
absl::Status StatusOf(cudaError_t error, std::string_view what);

struct DeviceFree {
  void operator()(void* data) const { (void)cudaFree(data); }
};
struct PinnedFree {
  void operator()(void* data) const { (void)cudaFreeHost(data); }
};
struct EventDestroy {
  void operator()(cudaEvent_t event) const { (void)cudaEventDestroy(event); }
};
using DeviceMemory = std::unique_ptr<void, DeviceFree>;  // Not zeroed.
using PinnedMemory = std::unique_ptr<void, PinnedFree>;
using Event = std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, EventDestroy>;

// On the current device, aligned to 256 bytes. kResourceExhausted names the size, `what` it is for,
// and what is free.
absl::StatusOr<DeviceMemory> AllocateDevice(size_t bytes, std::string_view what);
absl::StatusOr<PinnedMemory> AllocatePinned(size_t bytes);
absl::StatusOr<Event> MakeEvent();

// Zeroed device memory as a Buffer.
absl::StatusOr<std::unique_ptr<Buffer>> MakeBuffer(size_t bytes, std::string_view what,
                                                   cudaStream_t stream);

// Device memory that grows to the greatest size it was asked for; it moves only then.
class Scratch {
 public:
  // Waits for the stream before it gives up what is too small. `moved` is set when it grew.
  absl::Status Reserve(size_t bytes, cudaStream_t stream, bool* moved);
  void* data() const { return memory_.get(); }

 private:
  DeviceMemory memory_;
  size_t bytes_ = 0;
};

// Pinned memory through which the host writes to the device while earlier copies may still run: two
// slots in turn.
class Staging {
 public:
  // The next slot, at least `bytes` large; waits until its last copy is done.
  absl::StatusOr<void*> Next(size_t bytes);
  // Copies the slot's first bytes. The slot is free again when the copy is done.
  absl::Status CopyTo(void* device, size_t bytes, cudaStream_t stream);

 private:
  struct Slot {
    PinnedMemory memory;
    Event done;
    size_t bytes = 0;
  };
  Slot slots_[2];
  int slot_ = 0;
};

}  // namespace conclave::worker::cuda
