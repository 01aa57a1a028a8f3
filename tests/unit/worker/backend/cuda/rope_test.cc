#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/worker/backend/cuda/rig.h"
#include "worker/backend/cuda/rows.h"

namespace conclave::worker::cuda {
namespace {

struct RopeCase {
  int rows, q_heads, kv_heads, width;
  DType type;
  Stored stored;
  int padding = 0;  // Elements between one row and the next.
};

constexpr int kPositions = 100, kBlocks = 40;

double Tolerance(double value, Stored stored) {
  if (stored == Stored::kF32) return 1e-5;
  return stored == Stored::kBF16 ? std::abs(value) / 256 + 1e-5 : std::abs(value) / 16 + 2e-3;
}

class RopeTest : public Rig {
 protected:
  void Check(const RopeCase& c);
  // Every sequence has one row, at position n * 13 % kPositions, in blocks of its own order.
  BatchView BatchOf(int rows);
  // What the pool holds, as f32.
  std::vector<float> Read(const void* pool, Stored stored, size_t count);

  std::vector<int32_t> positions_, tables_, blocks_;
};

BatchView RopeTest::BatchOf(int rows) {
  positions_.clear(), tables_.clear(), blocks_.clear();
  std::vector<int32_t> free(kBlocks);
  for (int b = 0; b < kBlocks; ++b) free[static_cast<size_t>(b)] = b * 17 % kBlocks;
  for (int n = 0; n < rows; ++n) {
    positions_.push_back(n * 13 % kPositions);
    tables_.push_back(static_cast<int32_t>(blocks_.size()));
    for (int b = 0; b < positions_.back() / kKvBlock; ++b) blocks_.push_back(-1);  // Not read.
    blocks_.push_back(free[static_cast<size_t>(n)]);
  }
  BatchView batch;
  batch.rows = rows;
  batch.positions = Upload(positions_), batch.tables = Upload(tables_);
  batch.blocks = Upload(blocks_);
  return batch;
}

std::vector<float> RopeTest::Read(const void* pool, Stored stored, size_t count) {
  if (stored == Stored::kF32) return Download(static_cast<const float*>(pool), count);
  std::vector<float> values;
  if (stored == Stored::kBF16) {
    for (const auto v : Download(static_cast<const __nv_bfloat16*>(pool), count)) {
      values.push_back(__bfloat162float(v));
    }
  } else {
    for (const auto v : Download(static_cast<const __nv_fp8_e4m3*>(pool), count)) {
      values.push_back(static_cast<float>(v));
    }
  }
  return values;
}

void RopeTest::Check(const RopeCase& c) {
  const int half = c.width / 2, q_cols = c.q_heads * c.width, kv_cols = c.kv_heads * c.width;
  const int cols = q_cols + 2 * kv_cols;
  const auto values = Rounded(Random(static_cast<size_t>(c.rows * cols), 1), c.type);
  std::vector<float> cos, sin;
  for (int i = 0; i < kPositions * half; ++i) {
    const float angle = static_cast<float>(i / half) * std::pow(0.3f, static_cast<float>(i % half));
    cos.push_back(std::cos(angle)), sin.push_back(std::sin(angle));
  }
  const Tensor qkv = Upload(values, c.type, c.rows, cols, cols + c.padding);
  const size_t pool = static_cast<size_t>(kBlocks * kKvBlock * kv_cols);
  const size_t bytes = c.stored == Stored::kF32 ? 4 : c.stored == Stored::kBF16 ? 2 : 1;
  const KvView kv{Poisoned<char>(pool * bytes), Poisoned<char>(pool * bytes), c.stored, c.kv_heads,
                  c.width};
  const BatchView batch = BatchOf(c.rows);

  RopeStore(batch, qkv.Columns(0, q_cols), qkv.Columns(q_cols, kv_cols),
            qkv.Columns(q_cols + kv_cols, kv_cols), Upload(cos), Upload(sin), kv, stream());

  const auto q = Download(qkv), keys = Read(kv.keys, c.stored, pool);
  const auto stored_values = Read(kv.values, c.stored, pool);
  const Stored q_stored = c.type == DType::kF32 ? Stored::kF32 : Stored::kBF16;
  size_t written = 0;
  for (int n = 0; n < c.rows; ++n) {
    const int position = positions_[static_cast<size_t>(n)];
    const int block = blocks_[static_cast<size_t>(tables_[static_cast<size_t>(n)]) +
                              static_cast<size_t>(position / kKvBlock)];
    for (int h = 0; h < c.q_heads + 2 * c.kv_heads; ++h) {
      for (int e = 0; e < c.width; ++e) {
        const size_t at = static_cast<size_t>(n * cols + h * c.width);
        const double a = values[at + e % half], b = values[at + e % half + half];
        const double s = sin[static_cast<size_t>(position * half + e % half)];
        const double r = cos[static_cast<size_t>(position * half + e % half)];
        const double rotated = e < half ? a * r - b * s : b * r + a * s;
        if (h < c.q_heads) {
          ASSERT_NEAR(q[at + e], rotated, Tolerance(rotated, q_stored))
              << n << " " << h << " " << e;
          continue;
        }
        const int kv_head = (h - c.q_heads) % c.kv_heads;
        const size_t place = static_cast<size_t>(
            ((block * c.kv_heads + kv_head) * kKvBlock + position % kKvBlock) * c.width + e);
        const bool is_k = h < c.q_heads + c.kv_heads;
        const double expected = is_k ? rotated : values[at + e];
        ASSERT_NEAR((is_k ? keys : stored_values)[place], expected, Tolerance(expected, c.stored))
            << n << " " << h << " " << e;
        ++written;
      }
    }
  }
  const auto holds = [](float v) { return !std::isnan(v); };
  EXPECT_EQ(std::count_if(keys.begin(), keys.end(), holds) +
                std::count_if(stored_values.begin(), stored_values.end(), holds),
            written);
}

TEST_F(RopeTest, RotatesAndStoresHeadsOfEveryWidth) {
  for (const int rows : {1, 2, 9, 17}) {
    for (const int width : {64, 80, 96, 128}) {
      Check({rows, 4, 2, width, DType::kBF16, Stored::kBF16});
    }
  }
}

TEST_F(RopeTest, StoresInTheTypeOfThePool) {
  for (const int width : {16, 64}) {
    Check({3, 3, 1, width, DType::kF32, Stored::kF32});
    Check({3, 3, 1, width, DType::kF32, Stored::kBF16});
    Check({3, 3, 1, width, DType::kF32, Stored::kE4M3});
    Check({3, 3, 1, width, DType::kBF16, Stored::kE4M3});
  }
}

TEST_F(RopeTest, TakesHeadsThatAreNotWholeOctetsAndOddStrides) {
  Check({5, 3, 1, 12, DType::kF32, Stored::kF32});
  Check({5, 2, 2, 36, DType::kBF16, Stored::kBF16});
  Check({5, 2, 2, 64, DType::kBF16, Stored::kBF16, 3});
}

TEST_F(RopeTest, SaturatesValuesBeyondTheGreatestE4M3) {
  const int width = 16;
  std::vector<float> values(3 * width, 1000.0f);
  values[2 * width] = -1e6f;
  const Tensor qkv = Upload(values, DType::kBF16, 1, 3 * width);
  const size_t pool = static_cast<size_t>(kBlocks * kKvBlock * width);
  const KvView kv{Poisoned<char>(pool), Poisoned<char>(pool), Stored::kE4M3, 1, width};
  const BatchView batch = BatchOf(1);

  RopeStore(batch, qkv.Columns(0, width), qkv.Columns(width, width), qkv.Columns(2 * width, width),
            Upload(std::vector<float>(width / 2, 1.0f)),
            Upload(std::vector<float>(width / 2, 0.0f)), kv, stream());

  const auto keys = Read(kv.keys, kv.stored, pool), stored = Read(kv.values, kv.stored, pool);
  const size_t place = static_cast<size_t>(blocks_[0] * kKvBlock * width);
  EXPECT_EQ(keys[place], 448.0f);
  EXPECT_EQ(stored[place], -448.0f);
  EXPECT_EQ(stored[place + 1], 448.0f);
}

}  // namespace
}  // namespace conclave::worker::cuda
