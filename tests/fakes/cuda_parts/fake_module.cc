#include <cstdlib>
#include <memory>
#include <string>

#include "worker/backend/cuda_module.h"
#include "worker/collective/collective.h"

namespace conclave::worker {
namespace {

// Says which GPU it was asked for, and makes none. Without NCCL where the environment says so.
class FakeModule : public CudaModule {
 public:
  absl::StatusOr<std::unique_ptr<Device>> MakeDevice(const CudaOptions& options) override {
    return absl::Status(options.ordinal == 7 ? absl::StatusCode::kFailedPrecondition
                                             : absl::StatusCode::kResourceExhausted,
                        "GPU " + std::to_string(options.ordinal));
  }
  absl::Status CheckCollective() override {
    if (std::getenv("FAKE_CUDA_NO_NCCL") == nullptr) return absl::OkStatus();
    return absl::FailedPreconditionError("ranks on GPUs need NCCL");
  }
  absl::StatusOr<std::string> MakeCollectiveId(const CollectiveSeat&) override {
    return std::string("id");
  }
  absl::StatusOr<std::unique_ptr<Collective>> MakeCollective(Device&, const CollectiveSeat&,
                                                             const std::string&,
                                                             Collective&) override {
    return absl::UnimplementedError("");
  }
};

}  // namespace
}  // namespace conclave::worker

extern "C" const conclave::worker::CudaModuleEntry* ConclaveCudaModule() {
  static conclave::worker::FakeModule module;
  static const conclave::worker::CudaModuleEntry entry = {CONCLAVE_DEVICE_ABI, 13000, &module};
  return &entry;
}
