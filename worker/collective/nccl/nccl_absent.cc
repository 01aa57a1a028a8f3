// In place of nccl_collective.cc where the toolkit has no nccl.h.
#include "common/status.h"
#include "worker/collective/nccl/nccl_collective.h"

namespace conclave::worker {
namespace {

absl::Status Absent() {
  return Unimplemented(
      "this program was built without NCCL: on GPUs it serves with group.tensor_parallel=1 only; "
      "build it where nccl.h is installed (libnccl-dev)");
}

}  // namespace

absl::Status CheckNccl() { return Absent(); }

absl::StatusOr<std::string> NcclId(const NcclOptions&) { return Absent(); }

absl::StatusOr<std::unique_ptr<Collective>> JoinNccl(const NcclOptions&, Collective&) {
  return Absent();
}

}  // namespace conclave::worker
