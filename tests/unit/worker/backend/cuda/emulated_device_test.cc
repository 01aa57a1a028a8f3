#include <gtest/gtest.h>

#include <string>

#include "common/status.h"
#include "worker/backend/cuda/cuda_device.h"

// What only an emulated GPU can be told to lack.
namespace conclave::worker::cuda {
namespace {

TEST(EmulatedDeviceTest, AGpuThatTheKernelsWereNotCompiledForIsNamedBeforeAnythingIsLoaded) {
  {
    const emulated::WithoutKernels other;

    const absl::Status status = MakeCudaDevice({}).status();

    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    const std::string message(MessageOf(status));
    EXPECT_NE(message.find("compute capability 9.0"), std::string::npos) << message;
    EXPECT_NE(message.find("CONCLAVE_CUDA_ARCHITECTURES"), std::string::npos) << message;
  }
  EXPECT_TRUE(MakeCudaDevice({}).ok()) << "nothing of it stays";
}

}  // namespace
}  // namespace conclave::worker::cuda
