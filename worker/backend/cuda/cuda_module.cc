#include "worker/backend/cuda_module.h"

#include <memory>
#include <string>

#include "common/status.h"
#include "worker/backend/cuda/cuda_device.h"
#include "worker/backend/cuda/platform.h"
#include "worker/collective/collective.h"
#include "worker/collective/nccl/nccl_collective.h"

namespace conclave::worker {
namespace {

class Module : public CudaModule {
 public:
  absl::StatusOr<std::unique_ptr<Device>> MakeDevice(const CudaOptions& options) override {
    return cuda::MakeCudaDevice(options);
  }
  absl::Status CheckCollective() override { return CheckNccl(); }
  absl::StatusOr<std::string> MakeCollectiveId(const CollectiveSeat& seat) override {
    return NcclId(OptionsOf(seat));
  }
  absl::StatusOr<std::unique_ptr<Collective>> MakeCollective(Device& device,
                                                             const CollectiveSeat& seat,
                                                             const std::string& id,
                                                             Collective& host) override {
    const auto& mine = static_cast<const cuda::CudaDevice&>(device);
    NcclOptions options = OptionsOf(seat);
    options.id = id;
    options.device = mine.ordinal(), options.stream = mine.stream();
    return JoinNccl(options, host);
  }

 private:
  static NcclOptions OptionsOf(const CollectiveSeat& seat) {
    NcclOptions options;
    options.rank = seat.rank, options.size = seat.size;
    options.address = seat.address;
    options.device_is_shared = seat.devices_are_shared;
    return options;
  }
};

}  // namespace
}  // namespace conclave::worker

// The only symbol that the module shows.
extern "C" __attribute__((visibility("default"))) const conclave::worker::CudaModuleEntry*
ConclaveCudaModule() {
  static conclave::worker::Module module;
  static const conclave::worker::CudaModuleEntry entry = {CONCLAVE_DEVICE_ABI, CUDART_VERSION,
                                                          &module};
  return &entry;
}
