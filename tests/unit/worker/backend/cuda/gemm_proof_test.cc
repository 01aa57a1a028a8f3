#include "worker/backend/cuda/gemm_proof.h"

#include "common/status.h"
#include "tests/unit/worker/backend/cuda/rig.h"
#include "worker/backend/cuda/gemm.h"

namespace conclave::worker::cuda {
namespace {

class GemmProofTest : public Rig {
 protected:
  static constexpr GemmProof::Shape kShape = {24, 40, DType::kF32, 20};

  void SetUp() override {
    Rig::SetUp();
    if (IsSkipped()) return;
    w_ = UploadMatrix(Random(40 * 24, 8), 40, 24, Stored::kBF16).matrix;
    gemm_ = *MakeGemm();
    ASSERT_TRUE(gemm_->Prepare(w_, DType::kF32, 64).ok());
  }
  absl::Status Multiply(Tensor x, Tensor out, bool add, cudaStream_t stream) {
    gemm_->Run(x, w_, out, add, stream);
    return gemm_->TakeError();
  }

  Matrix w_;
  std::unique_ptr<Gemm> gemm_;
};

TEST_F(GemmProofTest, AProductWhoseRowsStandAlonePasses) {
  const auto proof = *GemmProof::Make(kShape);
  const auto product = [&](Tensor x, Tensor out, bool add, cudaStream_t stream) {
    return Multiply(x, out, add, stream);
  };
  const absl::Status status = proof->Check(product);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_GE(*proof->Milliseconds(product), 0);
  EXPECT_EQ(*proof->Digest(product), *proof->Digest(product));
}

TEST_F(GemmProofTest, ARowThatIsOtherInOtherCompanyIsFound) {
  const auto proof = *GemmProof::Make(kShape);
  const absl::Status status =
      proof->Check([&](Tensor x, Tensor out, bool add, cudaStream_t stream) -> absl::Status {
        RETURN_IF_ERROR(Multiply(x, out, add, stream));
        // Among 17 rows the fourth becomes the third.
        if (x.rows != 17) return absl::OkStatus();
        return Multiply(x.Rows(2, 1), out.Rows(3, 1), add, stream);
      });
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_NE(status.message().find("of 17"), absl::string_view::npos) << status;
}

TEST_F(GemmProofTest, ARowTooMuchIsFound) {
  const auto proof = *GemmProof::Make(kShape);
  const absl::Status status =
      proof->Check([&](Tensor x, Tensor out, bool add, cudaStream_t stream) {
        if (x.rows == 7) x.rows = out.rows = 8;
        return Multiply(x, out, add, stream);
      });
  EXPECT_NE(status.message().find("with 7 rows it writes row 7"), absl::string_view::npos)
      << status;
}

TEST_F(GemmProofTest, ProductsWithOtherBitsHaveOtherDigests) {
  const auto proof = *GemmProof::Make(kShape);
  const auto right = proof->Digest([&](Tensor x, Tensor out, bool add, cudaStream_t stream) {
    return Multiply(x, out, add, stream);
  });
  const auto wrong = proof->Digest([&](Tensor x, Tensor out, bool, cudaStream_t stream) {
    return Multiply(x, out, true, stream);
  });
  EXPECT_NE(*right, *wrong);
}

}  // namespace
}  // namespace conclave::worker::cuda
