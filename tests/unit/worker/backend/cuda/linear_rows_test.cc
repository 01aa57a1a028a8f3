#include "worker/backend/cuda/linear_rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "tests/reference/ops.h"
#include "tests/unit/worker/backend/cuda/rig.h"
#include "worker/backend/cuda/rows.h"
#include "worker/backend/cuda/shared_memory.h"

namespace conclave::worker::cuda {
namespace {

constexpr int kMostRows = 65;

// A weight's format and shape, and the type of x.
struct Case {
  Stored stored;
  int out, in;
  DType x = DType::kBF16;
};
void PrintTo(const Case& c, std::ostream* to) {
  *to << "stored " << static_cast<int>(c.stored) << " [" << c.out << ", " << c.in << "] x "
      << static_cast<int>(c.x);
}

// A row of 16 steps or more is cut into 16 parts along k, of 8 into 8 (blocks of 32 rows then), and
// so on.
std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const auto& [out, in] : {std::pair{1, 64}, {17, 72}, {40, 200}, {19, 1160}, {70, 584}}) {
    cases.push_back({Stored::kBF16, out, in});
  }
  for (const auto& [out, in] : {std::pair{1, 64}, {17, 72}, {40, 208}, {19, 2056}, {37, 1104}}) {
    cases.push_back({Stored::kE4M3, out, in});
  }
  for (const auto& [out, in] : {std::pair{1, 128}, {17, 384}, {9, 4224}, {37, 2176}}) {
    cases.push_back({Stored::kInt4, out, in});
  }
  cases.push_back({Stored::kF32, 19, 37, DType::kF32});
  cases.push_back({Stored::kF32, 3, 640, DType::kF32});
  cases.push_back({Stored::kBF16, 19, 100, DType::kF32});
  cases.push_back({Stored::kBF16, 9, 37});
  return cases;
}

struct Terms {
  double sum = 0, terms = 0;
};
Terms Dot(const float* w, const float* x, int in) {
  Terms dot;
  for (int k = 0; k < in; ++k) {
    dot.sum += static_cast<double>(w[k]) * x[k];
    dot.terms += std::abs(static_cast<double>(w[k]) * x[k]);
  }
  return dot;
}

class LinearRowsTest : public Rig, public testing::WithParamInterface<Case> {
 protected:
  void Prepare(int w_rows, uint32_t seed) {
    const Case& c = GetParam();
    // Rows of e4m3 are padded to 16 bytes, others to a stride that is not dense.
    const int padding = c.stored == Stored::kInt4 ? 0 : 16 + (16 - c.in % 16) % 16;
    w_ = UploadMatrix(Random(static_cast<size_t>(w_rows) * c.in, seed), w_rows, c.in, c.stored,
                      padding);
    x_values_ = Rounded(Random(static_cast<size_t>(kMostRows) * c.in, seed + 1), c.x);
    x_ = Upload(x_values_, c.x, kMostRows, c.in, (c.in + 7) / 8 * 8 + 8);
    bias_values_ = Random(w_rows, seed + 2);
    bias_ = Upload(bias_values_);
  }
  Terms Product(int row, int column) const {
    const int in = GetParam().in;
    return Dot(&w_.values[static_cast<size_t>(column) * in],
               &x_values_[static_cast<size_t>(row) * in], in);
  }
  std::vector<float> Linear(int first, int rows, DType dtype, const float* bias) {
    const Tensor out = Poisoned(dtype, rows, GetParam().out);
    LinearRows({x_.Rows(first, rows), w_.matrix, out, bias, false}, stream());
    return Download(out);
  }
  std::vector<float> GateUp(int first, int rows, DType dtype, const float* bias) {
    const Tensor out = Poisoned(dtype, rows, GetParam().out);
    GateUpRows({x_.Rows(first, rows), w_.matrix, out, bias}, stream());
    return Download(out);
  }
  // Rows [first, first + rows) of all.
  std::vector<uint32_t> BitsOfRows(const std::vector<float>& all, int first, int rows) const {
    const int64_t out = GetParam().out;
    return BitsOf(
        std::vector<float>(all.begin() + first * out, all.begin() + (first + rows) * out));
  }

  TestMatrix w_;
  std::vector<float> x_values_, bias_values_;
  Tensor x_;
  const float* bias_ = nullptr;
};

INSTANTIATE_TEST_SUITE_P(Weights, LinearRowsTest, testing::ValuesIn(Cases()));

TEST_P(LinearRowsTest, ProductsAreNearTheExactOnes) {
  const int out = GetParam().out;
  Prepare(out, 1);
  const std::vector<float> plain = Linear(0, kMostRows, DType::kF32, nullptr);
  const std::vector<float> biased = Linear(0, 11, DType::kBF16, bias_);
  for (int n = 0; n < kMostRows; ++n) {
    for (int o = 0; o < out; ++o) {
      const Terms exact = Product(n, o);
      const auto at = static_cast<size_t>(n) * out + o;
      ASSERT_TRUE(Near(plain[at], exact.sum, exact.terms)) << "row " << n << " column " << o;
      if (n >= 11) continue;
      const double bias = bias_values_[o];
      ASSERT_TRUE(Near(biased[at], exact.sum + bias, exact.terms + std::abs(bias), DType::kBF16))
          << "row " << n << " column " << o;
    }
  }
}

TEST_P(LinearRowsTest, ARowHasTheSameBitsInEveryBatch) {
  Prepare(GetParam().out, 2);
  const std::vector<float> all = Linear(0, kMostRows, DType::kF32, bias_);
  for (const int rows : {1, 2, 4, 5, 8, 9, 16, 17, 33}) {
    const int first = kMostRows - rows;
    ASSERT_EQ(BitsOf(Linear(0, rows, DType::kF32, bias_)), BitsOfRows(all, 0, rows)) << rows;
    ASSERT_EQ(BitsOf(Linear(first, rows, DType::kF32, bias_)), BitsOfRows(all, first, rows))
        << rows << " from " << first;
  }
}

TEST_P(LinearRowsTest, AddsToWhatIsThereAndToNothingElse) {
  const int out = GetParam().out, stride = out + 3;
  for (const int rows : {1, 10}) {
    Prepare(out, 3);
    const std::vector<float> before = Random(static_cast<size_t>(rows) * out, 4);
    const Tensor sum = Upload(before, DType::kF32, rows, out, stride);
    const std::vector<float> product = Linear(0, rows, DType::kF32, bias_);
    LinearRows({x_.Rows(0, rows), w_.matrix, sum, bias_, true}, stream());
    const auto found =
        Download(static_cast<const float*>(sum.data), static_cast<size_t>(rows) * stride);
    for (int n = 0; n < rows; ++n) {
      for (int o = 0; o < stride; ++o) {
        const float value = found[static_cast<size_t>(n) * stride + o];
        if (o < out) {
          const auto at = static_cast<size_t>(n) * out + o;
          ASSERT_NEAR(value, before[at] + product[at], 1e-5 * (1 + std::abs(product[at])));
        } else {
          ASSERT_TRUE(std::isnan(value)) << "row " << n << " column " << o;
        }
      }
    }
  }
}

TEST_P(LinearRowsTest, GateAndUpMeetInOneRow) {
  const int out = GetParam().out;
  Prepare(2 * out, 5);
  const DType dtype = GetParam().x;
  for (const bool with_bias : {true, false}) {
    const float* const bias = with_bias ? bias_ : nullptr;
    const std::vector<float> all = GateUp(0, kMostRows, dtype, bias);
    for (int n = 0; n < kMostRows; ++n) {
      for (int o = 0; o < out; ++o) {
        Terms gate = Product(n, o), up = Product(n, out + o);
        if (with_bias) {
          gate.sum += bias_values_[o];
          up.sum += bias_values_[out + o];
        }
        const double silu = reference::Silu(gate.sum);
        const double terms = 1.2 * gate.terms * std::abs(up.sum) + up.terms * std::abs(silu);
        ASSERT_TRUE(Near(all[static_cast<size_t>(n) * out + o], silu * up.sum, terms + 1, dtype))
            << "row " << n << " column " << o;
      }
    }
    for (const int rows : {1, 5, 9, 17}) {
      const int first = kMostRows - rows;
      ASSERT_EQ(BitsOf(GateUp(0, rows, dtype, bias)), BitsOfRows(all, 0, rows)) << rows;
      ASSERT_EQ(BitsOf(GateUp(first, rows, dtype, bias)), BitsOfRows(all, first, rows)) << rows;
    }
  }
}

TEST_P(LinearRowsTest, AProductThatNormsItsRowHasTheBitsOfANormAndAProduct) {
  const Case& c = GetParam();
  Prepare(2 * c.out, 6);
  const Tensor x = Upload(Random(c.in, 7), DType::kF32, 1, c.in, (c.in + 7) / 8 * 8);
  const RowNorm norm = {Upload(Random(c.in, 8)), 1e-5F};
  if (!CanNorm(x, norm, w_.matrix)) {
    ASSERT_TRUE(c.stored == Stored::kF32 || c.in % 8 != 0 || c.in <= 256 ||
                MostShared() <= size_t{99} << 10);
    return;
  }
  const Tensor normed = Poisoned(DType::kBF16, 1, c.in, (c.in + 7) / 8 * 8);
  RmsNorm(x, 1, norm.gain, norm.eps, normed, stream());
  const Tensor apart = Poisoned(DType::kF32, 1, 2 * c.out),
               both = Poisoned(DType::kF32, 1, 2 * c.out);
  LinearRows({normed, w_.matrix, apart, bias_, false}, stream());
  NormLinearRow({x, w_.matrix, both, bias_, false}, norm, stream());
  EXPECT_EQ(BitsOf(Download(both)), BitsOf(Download(apart)));
  const Tensor gated = Poisoned(DType::kBF16, 1, c.out), met = Poisoned(DType::kBF16, 1, c.out);
  GateUpRows({normed, w_.matrix, gated, bias_}, stream());
  NormGateUpRow({x, w_.matrix, met, bias_}, norm, stream());
  EXPECT_EQ(BitsOf(Download(met)), BitsOf(Download(gated)));
}

#ifdef CONCLAVE_CUDA_EMULATED
TEST_P(LinearRowsTest, LittleSharedMemoryChangesNoBit) {
  Prepare(GetParam().out, 9);
  for (const int rows : {1, 9, 17, kMostRows}) {
    const std::vector<float> linear = Linear(0, rows, DType::kF32, nullptr);
    const LittleShared little;
    EXPECT_EQ(BitsOf(Linear(0, rows, DType::kF32, nullptr)), BitsOf(linear)) << rows;
  }
}
#endif

class E4m3NumbersTest : public Rig {};

// Every row of x takes one number of a row of the weight, large and small: subnormal numbers and
// zeros must survive the tensor cores.
TEST_F(E4m3NumbersTest, EveryNumberIsExact) {
  constexpr int kIn = 64, kOut = 256;
  std::vector<uint8_t> bytes(kOut * kIn);
  for (int i = 0; i < kOut * kIn; ++i) bytes[i] = static_cast<uint8_t>(i / kIn + 37 * (i % kIn));
  const std::vector<float> scales(kOut, 0.25F);
  const Matrix w = {Upload(bytes), Stored::kE4M3, kIn, kOut, kIn, Upload(scales)};
  for (const float one : {1.0F, -0x1.8p-40F, 0x1.02p60F}) {
    std::vector<float> x(kIn * kIn, 0.0F);
    for (int n = 0; n < kIn; ++n) x[n * kIn + n] = one;
    const Tensor out = Poisoned(DType::kF32, kIn, kOut);
    LinearRows({Upload(x, DType::kBF16, kIn, kIn, kIn), w, out, nullptr, false}, stream());
    const std::vector<float> found = Download(out);
    for (int n = 0; n < kIn; ++n) {
      for (int o = 0; o < kOut; ++o) {
        const uint8_t byte = bytes[o * kIn + n];
        if ((byte & 0x7f) == 0x7f) continue;  // No number.
        __nv_fp8_e4m3 number;
        number.__x = byte;
        ASSERT_EQ(found[n * kOut + o], 0.25F * static_cast<float>(number) * one)
            << static_cast<int>(byte) << " times " << one;
      }
    }
  }
}

}  // namespace
}  // namespace conclave::worker::cuda
