#include "worker/runner/device_choice.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "common/status.h"
#include "worker/backend/cpu/cpu_device.h"
#include "worker/collective/exchange.h"

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
  if (options.cuda.weights != CudaOptions::Weights::kAsStored) {
    chosen.unheeded.emplace_back("group.cuda.weights");
  }
  if (options.cuda.kv != CudaOptions::Kv::kAsActivations) {
    chosen.unheeded.emplace_back("group.cuda.kv");
  }
  return chosen;
}

// What a rank tells the others of its choice: texts that end with a zero byte, cut where they don't
// fit.
struct Told {
  std::array<char, 96> device{}, why_no_cuda{};
};

absl::StatusOr<std::vector<Told>> TellAll(const ChosenDevice& mine, Collective& ranks) {
  Told told;
  const std::string name = mine.device->name();
  name.copy(told.device.data(), told.device.size() - 1);
  mine.why_no_cuda.copy(told.why_no_cuda.data(), told.why_no_cuda.size() - 1);
  return Exchange(told, ranks);
}

std::string Describe(size_t rank, const Told& told) {
  const std::string why = told.why_no_cuda.data();
  return fmt::format("rank {} has {}{}", rank, told.device.data(),
                     why.empty() ? "" : fmt::format(" ({})", why));
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
    return ChooseCpu(options,
                     fmt::format("GPUs: {}, ranks: {}; set group.tensor_parallel to at most the "
                                 "GPUs, or group.device to cuda, where ranks share them",
                                 cuda->devices, options.ranks));
  }
  if (std::max(options.ranks, options.group_ranks) > 1) {
    const absl::Status joins = cuda->module->CheckCollective();
    if (!joins.ok() && automatic) return ChooseCpu(options, std::string(MessageOf(joins)));
    RETURN_IF_ERROR(joins);
  }
  ChosenDevice chosen;
  chosen.cuda = cuda->module;
  chosen.gpus = cuda->devices;
  CudaOptions mine = options.cuda;
  mine.ordinal = options.rank % cuda->devices;
  absl::StatusOr<std::unique_ptr<Device>> device = chosen.cuda->MakeDevice(mine);
  if (!device.ok() && automatic && absl::IsFailedPrecondition(device.status())) {
    return ChooseCpu(options, std::string(MessageOf(device.status())));  // Too old, say.
  }
  ASSIGN_OR_RETURN(chosen.device, std::move(device));
  return chosen;
}

absl::StatusOr<ChosenDevice> AgreeOnDevice(const DeviceOptions& options, ChosenDevice mine,
                                           Collective& ranks) {
  ASSIGN_OR_RETURN(const std::vector<Told> everyone, TellAll(mine, ranks));
  const auto other = std::ranges::find_if(
      everyone, [&](const Told& told) { return told.device != everyone[0].device; });
  if (other == everyone.end()) return mine;
  const std::string difference =
      fmt::format("ranks have devices of different kinds: {}, {}", Describe(0, everyone[0]),
                  Describe(static_cast<size_t>(other - everyone.begin()), *other));
  if (options.kind != DeviceKind::kAuto) {
    return FailedPrecondition("{}; a group computes on one kind: set group.{}", difference,
                              options.kind == DeviceKind::kCpu ? "instruction_set" : "device");
  }
  ASSIGN_OR_RETURN(ChosenDevice fallback, ChooseCpu(options, difference));
  DeviceOptions cpu = options;
  cpu.kind = DeviceKind::kCpu;
  return AgreeOnDevice(cpu, std::move(fallback), ranks);
}

}  // namespace conclave::worker
