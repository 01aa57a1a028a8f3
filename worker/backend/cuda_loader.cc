#include "worker/backend/cuda_loader.h"

#include <dlfcn.h>

#include <string_view>
#include <system_error>

#include "common/status.h"

namespace conclave::worker {
namespace {

// What cuInit says, by the driver's numbers.
constexpr int kStubLibrary = 34, kNoDevice = 100, kUnknownToDriver = 999;
constexpr int kNotReady = 802, kDriverMismatch = 803, kCompatMismatch = 804;

struct Driver {
  int (*init)(unsigned flags) = nullptr;
  int (*device_count)(int* count) = nullptr;
  int (*version)(int* version) = nullptr;
};

template <typename Function>
bool Find(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  return *function != nullptr;
}

std::string LastLoaderError() {
  const char* text = dlerror();
  return text != nullptr ? text : "unknown error";
}

absl::StatusOr<Driver> OpenDriver(const std::string& name) {
  // Never closed: the driver does not take that well.
  void* const library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return NotFound("no NVIDIA driver ({}): install one, or give the container the GPUs",
                    LastLoaderError());
  }
  Driver driver;
  if (!Find(library, "cuInit", &driver.init) ||
      !Find(library, "cuDeviceGetCount", &driver.device_count) ||
      !Find(library, "cuDriverGetVersion", &driver.version)) {
    return FailedPrecondition("{} is no NVIDIA driver: look for what stands in its place", name);
  }
  return driver;
}

absl::Status StartDriver(const Driver& driver) {
  switch (const int error = driver.init(0); error) {
    case 0:
      return absl::OkStatus();
    case kStubLibrary:
      return FailedPrecondition(
          "the NVIDIA driver that was found is the toolkit's stub: take its folder of stubs out of "
          "LD_LIBRARY_PATH");
    case kNoDevice:
      return NotFound(
          "the NVIDIA driver sees no GPU: give the container the GPUs, or look at "
          "CUDA_VISIBLE_DEVICES");
    case kNotReady:
      return FailedPrecondition(
          "the NVIDIA driver is not ready (error {}): GPUs on NVSwitch need the fabric manager; "
          "start nvidia-fabricmanager of the driver's version, or wait until it is done",
          error);
    case kDriverMismatch:
    case kCompatMismatch:
      return FailedPrecondition(
          "the NVIDIA driver's library and kernel module are of different versions (error {}): "
          "restart the machine, or update the container's driver files",
          error);
    case kUnknownToDriver:
      return FailedPrecondition(
          "the NVIDIA driver does not start (error {}): `nvidia-smi` and the kernel's log say more",
          error);
    default:
      return FailedPrecondition("the NVIDIA driver does not start (error {}): try `nvidia-smi`",
                                error);
  }
}

absl::StatusOr<std::filesystem::path> FindModule(const CudaPlaces& places) {
  for (const std::filesystem::path& folder : places.folders) {
    std::error_code error;
    if (std::filesystem::exists(folder / kCudaModuleFile, error)) return folder / kCudaModuleFile;
  }
  return NotFound(
      "{} is not beside the worker: it was built without the CUDA toolkit; build with "
      "CONCLAVE_CUDA=ON, or install the file",
      kCudaModuleFile);
}

absl::StatusOr<const CudaModuleEntry*> OpenModule(const std::filesystem::path& path) {
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return FailedPrecondition(
        "{} does not load ({}): install the CUDA 13 libraries (cuBLAS, NCCL), or name their folder "
        "in LD_LIBRARY_PATH",
        path.string(), LastLoaderError());
  }
  const CudaModuleEntry* (*entry)() = nullptr;
  if (!Find(library, kCudaModuleFunction, &entry)) {
    return FailedPrecondition("{} is not Conclave's: install the one of this version",
                              path.string());
  }
  const CudaModuleEntry* const module = entry();
  if (std::string_view(module->abi) != CONCLAVE_DEVICE_ABI) {
    return FailedPrecondition(
        "{} is of another build ({}; this worker is {}): install them together", path.string(),
        module->abi, CONCLAVE_DEVICE_ABI);
  }
  return module;
}

// 13020 is 13.2.
std::string VersionText(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

}  // namespace

CudaPlaces DefaultCudaPlaces() {
  CudaPlaces places;
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) {
    places.folders = {program.parent_path(), program.parent_path().parent_path() / "lib"};
  }
  return places;
}

absl::StatusOr<LoadedCuda> LoadCuda(const CudaPlaces& places) {
  ASSIGN_OR_RETURN(const Driver driver, OpenDriver(places.driver));
  RETURN_IF_ERROR(StartDriver(driver));
  LoadedCuda loaded;
  int version = 0;
  if (driver.device_count(&loaded.devices) != 0 || loaded.devices < 1) {
    return NotFound("the NVIDIA driver counts no GPU: look at CUDA_VISIBLE_DEVICES");
  }
  ASSIGN_OR_RETURN(const std::filesystem::path path, FindModule(places));
  ASSIGN_OR_RETURN(const CudaModuleEntry* const entry, OpenModule(path));
  // Drivers serve every runtime of their own major version.
  if (driver.version(&version) != 0 || version / 1000 < entry->runtime_version / 1000) {
    return FailedPrecondition(
        "the NVIDIA driver serves CUDA {}, and this build needs {}: update the driver",
        VersionText(version), VersionText(entry->runtime_version));
  }
  loaded.module = entry->module;
  return loaded;
}

}  // namespace conclave::worker
