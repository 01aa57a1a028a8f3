#include <cstdlib>

// An NVIDIA driver that says what the environment tells it to.
namespace {

int Told(const char* name, int otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr ? std::atoi(value) : otherwise;
}

}  // namespace

extern "C" {

int cuInit(unsigned) { return Told("FAKE_CUDA_INIT", 0); }

int cuDeviceGetCount(int* count) {
  *count = Told("FAKE_CUDA_DEVICES", 1);
  return 0;
}

int cuDriverGetVersion(int* version) {
  *version = Told("FAKE_CUDA_VERSION", 13000);
  return 0;
}

}  // extern "C"
