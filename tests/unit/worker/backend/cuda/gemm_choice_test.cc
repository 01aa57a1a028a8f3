#include "tests/fakes/cuda/fake_cublaslt.h"
#include "tests/unit/worker/backend/cuda/rig.h"
#include "worker/backend/cuda/gemm.h"

namespace conclave::worker::cuda {
namespace {

using fakes::CublasAlgorithm;
using GemmChoiceTest = Rig;

TEST_F(GemmChoiceTest, TheFastestOfTheFirstBitsThatStandAloneIsTaken) {
  const auto gemm = *MakeGemm();
  const TestMatrix w = UploadMatrix(Random(40 * 24, 8), 40, 24, Stored::kBF16);
  const Tensor x = Upload(Random(24, 9), DType::kBF16, 1, 24);
  const Tensor out = Poisoned(DType::kF32, 1, 40);
  const absl::Status status = gemm->Prepare(w.matrix, DType::kF32, 20);
  ASSERT_TRUE(status.ok()) << status;
  gemm->Run(x, w.matrix, out, false, stream());
  EXPECT_EQ(fakes::LastCublasAlgorithm(), CublasAlgorithm::kRight);
  EXPECT_TRUE(gemm->TakeError().ok());
  // More rows later: what it was it remains.
  ASSERT_TRUE(gemm->Prepare(w.matrix, DType::kF32, 30).ok());
  gemm->Run(x, w.matrix, out, false, stream());
  EXPECT_EQ(fakes::LastCublasAlgorithm(), CublasAlgorithm::kRight);
}

TEST_F(GemmChoiceTest, WhereTheFirstBitsDoNotStandAloneTheNextAreTaken) {
  const auto gemm = *MakeGemm();
  const TestMatrix w = UploadMatrix(Random(40 * 24, 8), 40, 24, Stored::kBF16);
  // With 21 rows the one that heeds its company has the bits of the other order.
  ASSERT_TRUE(gemm->Prepare(w.matrix, DType::kF32, 21).ok());
  gemm->Run(Upload(Random(24, 9), DType::kBF16, 1, 24), w.matrix, Poisoned(DType::kF32, 1, 40),
            false, stream());
  EXPECT_EQ(fakes::LastCublasAlgorithm(), CublasAlgorithm::kOtherOrder);
}

TEST_F(GemmChoiceTest, WhereMemoryIsShortForACandidateNothingIsChosen) {
  const auto gemm = *MakeGemm();
  const TestMatrix w = UploadMatrix(Random(40 * 24, 8), 40, 24, Stored::kBF16);
  // Without the two it would be the one with other bits.
  for (const CublasAlgorithm each : {CublasAlgorithm::kSlow, CublasAlgorithm::kRight}) {
    const fakes::ShortOfMemory short_of_memory(each);
    const absl::Status status = gemm->Prepare(w.matrix, DType::kF32, 20);
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  }
  EXPECT_TRUE(gemm->Prepare(w.matrix, DType::kF32, 20).ok()) << "there is room again";
}

TEST_F(GemmChoiceTest, WhatIsNotPreparedIsAnError) {
  const auto gemm = *MakeGemm();
  const TestMatrix w = UploadMatrix(Random(40 * 24, 8), 40, 24, Stored::kBF16);
  const Tensor x = Upload(Random(21 * 24, 9), DType::kBF16, 21, 24);
  const Tensor out = Poisoned(DType::kF32, 21, 40);
  gemm->Run(x, w.matrix, out, true, stream());
  EXPECT_EQ(gemm->TakeError().code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(gemm->TakeError().ok());
  ASSERT_TRUE(gemm->Prepare(w.matrix, DType::kF32, 20).ok());
  gemm->Run(x, w.matrix, out, true, stream());
  const absl::Status status = gemm->TakeError();
  EXPECT_NE(status.message().find("21 rows"), absl::string_view::npos) << status;
}

}  // namespace
}  // namespace conclave::worker::cuda
