#include "worker/runner/device_choice.h"

#include <utility>

#include "common/status.h"
#include "worker/backend/cpu/cpu_device.h"

namespace conclave::worker {
namespace {

absl::StatusOr<ChosenDevice> ChooseCpu(const DeviceOptions& options, std::string why_no_cuda) {
  if (options.cuda.compute == CudaOptions::Compute::kBF16) {
    return InvalidArgument("compute bf16 is a GPU's{}{}", why_no_cuda.empty() ? "" : ": ",
                           why_no_cuda);
  }
  ChosenDevice chosen;
  ASSIGN_OR_RETURN(chosen.device, MakeCpuDevice(options.instruction_set, options.threads));
  chosen.why_no_cuda = std::move(why_no_cuda);
  return chosen;
}

}  // namespace

absl::StatusOr<ChosenDevice> ChooseDevice(const DeviceOptions& options, const CudaPlaces& places) {
  if (options.kind == DeviceKind::kCpu) return ChooseCpu(options, "");
  const bool automatic = options.kind == DeviceKind::kAuto;
  const absl::StatusOr<LoadedCuda> cuda = LoadCuda(places);
  if (!cuda.ok()) {
    if (automatic) return ChooseCpu(options, std::string(MessageOf(cuda.status())));
    return cuda.status();
  }
  if (automatic && cuda->devices < options.ranks) {
    return ChooseCpu(
        options, fmt::format("GPUs: {}, ranks: {}; set group.tensor_parallel to at most the GPUs",
                             cuda->devices, options.ranks));
  }
  ChosenDevice chosen;
  chosen.cuda = cuda->module;
  CudaOptions mine = options.cuda;
  mine.ordinal = options.rank % cuda->devices;
  absl::StatusOr<std::unique_ptr<Device>> device = chosen.cuda->MakeDevice(mine);
  if (!device.ok() && automatic && absl::IsFailedPrecondition(device.status())) {
    return ChooseCpu(options, std::string(MessageOf(device.status())));  // Too old, say.
  }
  ASSIGN_OR_RETURN(chosen.device, std::move(device));
  return chosen;
}

}  // namespace conclave::worker
