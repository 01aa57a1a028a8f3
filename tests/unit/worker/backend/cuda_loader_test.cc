#include "worker/backend/cuda_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "common/status.h"

namespace conclave::worker {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// A machine with a driver, a GPU and a module; each test takes something away.
class CudaLoaderTest : public ::testing::Test {
 protected:
  void SetUp() override { Forget(); }
  void TearDown() override { Forget(); }

  static void Tell(const char* name, int value) {
    setenv(name, std::to_string(value).c_str(), /*overwrite=*/1);
  }
  // Loading fails with this code; returns the sentence.
  std::string WhyNot(absl::StatusCode code) {
    const absl::Status status = LoadCuda(places_).status();
    EXPECT_EQ(status.code(), code) << status;
    return std::string(MessageOf(status));
  }

  CudaPlaces places_ = {FAKE_CUDA_PARTS "/fake_cuda_driver.so", {FAKE_CUDA_PARTS "/right"}};

 private:
  static void Forget() {
    for (const char* name : {"FAKE_CUDA_INIT", "FAKE_CUDA_DEVICES", "FAKE_CUDA_VERSION"}) {
      unsetenv(name);
    }
  }
};

TEST_F(CudaLoaderTest, GpusAreCountedAndTheModuleIsOpened) {
  Tell("FAKE_CUDA_DEVICES", 4);

  const auto loaded = LoadCuda(places_);

  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->devices, 4);
  EXPECT_EQ(*loaded->module->MakeCollectiveId({}), "id");
}

TEST_F(CudaLoaderTest, TheFirstFolderThatHasAModuleGivesIt) {
  places_.folders = {FAKE_CUDA_PARTS "/nothing", FAKE_CUDA_PARTS "/right", FAKE_CUDA_PARTS "/old"};
  EXPECT_TRUE(LoadCuda(places_).ok());
}

TEST_F(CudaLoaderTest, AMachineWithoutADriverIsToldToInstallOne) {
  places_.driver = FAKE_CUDA_PARTS "/no_driver.so";
  EXPECT_THAT(WhyNot(absl::StatusCode::kNotFound),
              AllOf(HasSubstr("no NVIDIA driver"), HasSubstr("install")));
}

TEST_F(CudaLoaderTest, TheToolkitsStubIsToldFromADriver) {
  Tell("FAKE_CUDA_INIT", 34);
  EXPECT_THAT(WhyNot(absl::StatusCode::kFailedPrecondition),
              AllOf(HasSubstr("stub"), HasSubstr("LD_LIBRARY_PATH")));
}

TEST_F(CudaLoaderTest, ADriverWithoutAGpuIsSaidSo) {
  Tell("FAKE_CUDA_INIT", 100);
  EXPECT_THAT(WhyNot(absl::StatusCode::kNotFound), HasSubstr("sees no GPU"));
  Tell("FAKE_CUDA_INIT", 0);
  Tell("FAKE_CUDA_DEVICES", 0);
  EXPECT_THAT(WhyNot(absl::StatusCode::kNotFound), HasSubstr("CUDA_VISIBLE_DEVICES"));
}

TEST_F(CudaLoaderTest, ADriverThatDoesNotStartKeepsItsNumber) {
  Tell("FAKE_CUDA_INIT", 803);
  EXPECT_THAT(WhyNot(absl::StatusCode::kFailedPrecondition), HasSubstr("different versions"));
  Tell("FAKE_CUDA_INIT", 802);
  EXPECT_THAT(WhyNot(absl::StatusCode::kFailedPrecondition), HasSubstr("nvidia-fabricmanager"));
  Tell("FAKE_CUDA_INIT", 999);
  EXPECT_THAT(WhyNot(absl::StatusCode::kFailedPrecondition), HasSubstr("error 999"));
  Tell("FAKE_CUDA_INIT", 3);
  EXPECT_THAT(WhyNot(absl::StatusCode::kFailedPrecondition), HasSubstr("error 3"));
}

TEST_F(CudaLoaderTest, ADriverOlderThanTheRuntimeIsToldToBeUpdated) {
  Tell("FAKE_CUDA_VERSION", 12040);
  EXPECT_THAT(WhyNot(absl::StatusCode::kFailedPrecondition),
              AllOf(HasSubstr("CUDA 12.4"), HasSubstr("needs 13.0"), HasSubstr("update")));
  Tell("FAKE_CUDA_VERSION", 13020);
  EXPECT_TRUE(LoadCuda(places_).ok());
}

TEST_F(CudaLoaderTest, AWorkerThatWasBuiltWithoutTheToolkitSaysSo) {
  places_.folders = {FAKE_CUDA_PARTS "/nothing"};
  EXPECT_THAT(WhyNot(absl::StatusCode::kNotFound),
              AllOf(HasSubstr("libconclave_cuda.so"), HasSubstr("CONCLAVE_CUDA=ON")));
}

TEST_F(CudaLoaderTest, AModuleOfAnotherBuildIsRefused) {
  places_.folders = {FAKE_CUDA_PARTS "/old"};
  EXPECT_THAT(WhyNot(absl::StatusCode::kFailedPrecondition),
              AllOf(HasSubstr("another build"), HasSubstr("0.0.1-old")));
}

TEST_F(CudaLoaderTest, WhatIsNoModuleIsRefused) {
  places_.folders = {FAKE_CUDA_PARTS "/strange"};
  EXPECT_THAT(WhyNot(absl::StatusCode::kFailedPrecondition), HasSubstr("is not Conclave's"));
  places_ = {FAKE_CUDA_PARTS "/right/libconclave_cuda.so", {FAKE_CUDA_PARTS "/right"}};
  EXPECT_THAT(WhyNot(absl::StatusCode::kFailedPrecondition), HasSubstr("is no NVIDIA driver"));
}

TEST_F(CudaLoaderTest, LibrariesThatTheModuleMissesAreNamed) {
  places_.folders = {FAKE_CUDA_PARTS "/bare"};
  EXPECT_THAT(WhyNot(absl::StatusCode::kFailedPrecondition),
              AllOf(HasSubstr("libfake_cublas.so"), HasSubstr("install the CUDA 13 libraries")));
}

}  // namespace
}  // namespace conclave::worker
