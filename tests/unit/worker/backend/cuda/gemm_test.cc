#include "worker/backend/cuda/gemm.h"

#include "tests/reference/ops.h"
#include "tests/unit/worker/backend/cuda/rig.h"

namespace conclave::worker::cuda {
namespace {

class GemmTest : public Rig {
 protected:
  // rows of x times a weight, over an `out` that has numbers (add) or NaN, with more rows than
  // asked for, which must stay NaN.
  std::vector<float> Run(Gemm& gemm, const std::vector<float>& x, const Matrix& w, DType type,
                         const std::vector<float>* add = nullptr) {
    const int64_t rows = static_cast<int64_t>(x.size()) / w.in;
    Tensor out = Poisoned(type, rows + 3, w.out);
    if (add != nullptr) {
      out = Upload(std::vector<float>(static_cast<size_t>((rows + 3) * w.out), NAN), type, rows + 3,
                   w.out);
      EXPECT_EQ(cudaMemcpyAsync(out.data, add->data(), static_cast<size_t>(rows * w.out) * 4,
                                cudaMemcpyHostToDevice, stream()),
                cudaSuccess);
    }
    gemm.Run(Upload(x, DType::kBF16, rows, w.in), w, out.Rows(0, rows), add != nullptr, stream());
    std::vector<float> found = Download(out);
    EXPECT_TRUE(gemm.TakeError().ok());
    for (size_t i = x.size() / static_cast<size_t>(w.in) * static_cast<size_t>(w.out);
         i < found.size(); ++i) {
      EXPECT_TRUE(std::isnan(found[i])) << i;
    }
    found.resize(static_cast<size_t>(rows * w.out));
    return found;
  }

  void ExpectReference(Gemm& gemm, const TestMatrix& w, DType type, int64_t rows, bool add) {
    const int in = static_cast<int>(w.matrix.in);
    const size_t out = static_cast<size_t>(w.matrix.out);
    const std::vector<float> x = Rounded(Random(static_cast<size_t>(rows * in), 11), DType::kBF16);
    const std::vector<float> before = Random(static_cast<size_t>(rows) * out, 12);
    const std::vector<float> found = Run(gemm, x, w.matrix, type, add ? &before : nullptr);
    // A widened number is rounded to bf16.
    const double widened = w.matrix.stored == Stored::kBF16 ? 0 : 1.0 / 256;
    for (int64_t n = 0; n < rows; ++n) {
      const float* row = x.data() + n * in;
      const std::vector<double> expected = reference::Linear(w.values, row, in);
      for (size_t o = 0; o < out; ++o) {
        double terms = 0;
        for (int k = 0; k < in; ++k) {
          terms += std::abs(
              static_cast<double>(w.values[o * static_cast<size_t>(in) + static_cast<size_t>(k)]) *
              row[k]);
        }
        const size_t at = static_cast<size_t>(n) * out + o;
        const double more = add ? before[at] : 0;
        ASSERT_NEAR(found[at], expected[o] + more,
                    (1e-5 + widened) * (terms + std::abs(more)) +
                        (type == DType::kBF16 ? std::abs(expected[o]) / 256 : 0))
            << n << " " << o;
      }
    }
  }
};

TEST_F(GemmTest, AProductIsTheReferencesInEveryFormat) {
  auto gemm = MakeGemm();
  ASSERT_TRUE(gemm.ok()) << gemm.status();
  for (const Stored stored : {Stored::kBF16, Stored::kE4M3, Stored::kInt4}) {
    const TestMatrix w = UploadMatrix(Random(24 * 256, 5), 24, 256, stored);
    for (const DType type : {DType::kF32, DType::kBF16}) {
      const absl::Status status = (*gemm)->Prepare(w.matrix, type, 33);
      ASSERT_TRUE(status.ok()) << status;
      for (const int64_t rows : {1, 2, 9, 33}) {
        ExpectReference(**gemm, w, type, rows, false);
        if (type == DType::kF32) ExpectReference(**gemm, w, type, rows, true);
      }
    }
  }
}

TEST_F(GemmTest, ARowHasTheSameBitsInAnyCompany) {
  auto gemm = MakeGemm();
  ASSERT_TRUE(gemm.ok()) << gemm.status();
  const TestMatrix w = UploadMatrix(Random(16 * 320, 6), 16, 320, Stored::kBF16);
  ASSERT_TRUE((*gemm)->Prepare(w.matrix, DType::kF32, 40).ok());
  const std::vector<float> x = Random(40 * 320, 7);
  const std::vector<uint32_t> all = BitsOf(Run(**gemm, x, w.matrix, DType::kF32));
  for (const int rows : {1, 3, 8, 33, 39}) {
    for (const int first : {0, 40 - rows}) {
      const std::vector<uint32_t> some =
          BitsOf(Run(**gemm, {x.begin() + first * 320, x.begin() + (first + rows) * 320}, w.matrix,
                     DType::kF32));
      EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin() + first * 16)) << rows;
    }
  }
}

}  // namespace
}  // namespace conclave::worker::cuda
