#include "worker/collective/nccl/nccl_api.h"

#include <dlfcn.h>

#include "common/status.h"

namespace conclave::worker {
namespace {

constexpr char kLibrary[] = "libnccl.so.2";
constexpr int kOldest = NCCL_VERSION(2, 18, 0);  // Its configuration grew fields until then.

template <typename Function>
bool Find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

absl::StatusOr<NcclApi> Open() {
  void* library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return FailedPrecondition(
        "ranks on GPUs need NCCL: {}; install it (libnccl2), or name its folder in LD_LIBRARY_PATH",
        dlerror());
  }
  NcclApi api;
  decltype(&::ncclGetVersion) get_version = nullptr;
  int version = 0;
  if (!Find(library, "ncclGetVersion", get_version) || get_version(&version) != ncclSuccess ||
      version < kOldest) {
    return FailedPrecondition("{} has version {}; the oldest that works is {}", kLibrary, version,
                              kOldest);
  }
  const bool all = Find(library, "ncclGetUniqueId", api.get_unique_id) &&
                   Find(library, "ncclCommInitRankConfig", api.comm_init_rank_config) &&
                   Find(library, "ncclCommGetAsyncError", api.comm_get_async_error) &&
                   Find(library, "ncclAllGather", api.all_gather) &&
                   Find(library, "ncclSend", api.send) && Find(library, "ncclRecv", api.recv) &&
                   Find(library, "ncclGroupStart", api.group_start) &&
                   Find(library, "ncclGroupEnd", api.group_end) &&
                   Find(library, "ncclGetErrorString", api.get_error_string) &&
                   Find(library, "ncclGetLastError", api.get_last_error);
  if (!all) return FailedPrecondition("{} lacks a function: {}", kLibrary, dlerror());
  return api;
}

}  // namespace

absl::StatusOr<const NcclApi*> LoadNccl() {
  static const absl::StatusOr<NcclApi>* const api = new absl::StatusOr<NcclApi>(Open());
  if (!api->ok()) return api->status();
  return &**api;
}

}  // namespace conclave::worker
