#include <gtest/gtest.h>

#include "tests/reference/ops.h"
#include "tests/unit/worker/backend/cuda/rig.h"
#include "worker/backend/cuda/rows.h"

namespace conclave::worker::cuda {
namespace {

constexpr float kEps = 1e-5f;

struct NormCase {
  int rows, heads, width;
  DType x, out;
  int padding = 0;  // Elements between one row and the next.
};
constexpr DType kF32 = DType::kF32, kBF16 = DType::kBF16;

class NormTest : public Rig {
 protected:
  void Check(const NormCase& c);
};

void NormTest::Check(const NormCase& c) {
  const int cols = c.heads * c.width;
  const auto values = Rounded(Random(static_cast<size_t>(c.rows * cols), 1), c.x);
  const auto gain = Random(static_cast<size_t>(c.width), 2);
  const float* device_gain = Upload(gain);
  const Tensor x = Upload(values, c.x, c.rows, cols, cols + c.padding);
  const Tensor out = Poisoned(c.out, c.rows, cols, cols + c.padding);

  RmsNorm(x, c.heads, device_gain, kEps, out, stream());

  const auto found = Download(out);
  for (int unit = 0; unit < c.rows * c.heads; ++unit) {
    const size_t at = static_cast<size_t>(unit * c.width);
    const std::vector<float> head(values.begin() + at, values.begin() + at + c.width);
    const auto expected = reference::RmsNorm(head, gain, kEps);
    for (int i = 0; i < c.width; ++i) {
      ASSERT_TRUE(Near(found[at + i], expected[i], std::abs(expected[i]), c.out))
          << "width " << c.width << ", unit " << unit << ", column " << i;
    }
  }
  for (int n = 0; n < c.rows; ++n) {
    const Tensor alone = Poisoned(c.out, 1, cols);
    RmsNorm(x.Rows(n, 1), c.heads, device_gain, kEps, alone, stream());
    ASSERT_EQ(BitsOf(Download(alone)),
              BitsOf({found.begin() + n * cols, found.begin() + (n + 1) * cols}))
        << "row " << n << " of " << c.rows << ", width " << c.width;
  }
}

TEST_F(NormTest, GivesTheReferenceForRowsOfEveryWidth) {
  for (const int width : {8, 36, 250, 256, 257, 576, 2048, 3000, 4096, 5120, 16384}) {
    Check({3, 1, width, kF32, kBF16});
  }
}

TEST_F(NormTest, TakesAndGivesBothTypes) {
  for (const int width : {128, 1000, 4104}) {
    for (const DType x : {kF32, kBF16}) {
      for (const DType out : {kF32, kBF16}) Check({2, 1, width, x, out});
    }
  }
}

TEST_F(NormTest, NormsEveryHeadAloneInStridedRows) {
  for (const int rows : {1, 2, 9, 17}) {
    for (const int width : {64, 80, 96, 128, 256}) Check({rows, 5, width, kBF16, kBF16, 64});
    Check({rows, 3, 20, kBF16, kBF16, 3});
    Check({rows, 3, 18, kF32, kF32, 5});
  }
}

TEST_F(NormTest, MayWriteInPlace) {
  for (const int width : {128, 2048}) {
    const auto values = Random(static_cast<size_t>(2 * width), 1);
    const float* gain = Upload(Random(static_cast<size_t>(width), 2));
    const Tensor x = Upload(values, kF32, 2, width), out = Poisoned(kF32, 2, width);
    RmsNorm(x, 1, gain, kEps, out, stream());

    RmsNorm(x, 1, gain, kEps, x, stream());

    EXPECT_EQ(BitsOf(Download(x)), BitsOf(Download(out)));
  }
}

TEST_F(NormTest, HasTheSameBitsHoweverRowsAreAligned) {
  for (const int width : {128, 4096}) {
    const auto values = Random(static_cast<size_t>(3 * width), 1);
    const float* gain = Upload(Random(static_cast<size_t>(width), 2));
    const Tensor whole = Upload(values, kF32, 3, width);
    const Tensor odd = Upload(values, kF32, 3, width, width + 1);
    const Tensor first = Poisoned(kF32, 3, width), second = Poisoned(kF32, 3, width);

    RmsNorm(whole, 1, gain, kEps, first, stream());
    RmsNorm(odd, 1, gain, kEps, second, stream());

    EXPECT_EQ(BitsOf(Download(first)), BitsOf(Download(second)));
  }
}

}  // namespace
}  // namespace conclave::worker::cuda
