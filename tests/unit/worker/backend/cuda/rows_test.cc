#include "worker/backend/cuda/rows.h"

#include <gtest/gtest.h>

#include "tests/reference/ops.h"
#include "tests/unit/worker/backend/cuda/rig.h"

namespace conclave::worker::cuda {
namespace {

constexpr DType kF32 = DType::kF32, kBF16 = DType::kBF16;

class RowsTest : public Rig {
 protected:
  // Row n of x alone, after `operation`, has the bits that it has in `together`.
  void ExpectAlone(const std::vector<float>& together, int n, Tensor alone) {
    const auto begin = together.begin() + n * alone.cols;
    ASSERT_EQ(BitsOf(Download(alone)), BitsOf({begin, begin + alone.cols})) << "row " << n;
  }
};

TEST_F(RowsTest, AddsRowsAndBias) {
  for (const DType type : {kF32, kBF16}) {
    for (const int rows : {1, 2, 3, 8, 9, 17, 65}) {
      for (const int width : {8, 36, 257, 1024}) {
        const size_t count = static_cast<size_t>(rows * width);
        const auto x = Random(count, 1), y = Rounded(Random(count, 2), type);
        const auto bias = Random(static_cast<size_t>(width), 3);
        const float* device_bias = Upload(bias);
        const Tensor sum = Upload(x, kF32, rows, width), plain = Upload(x, kF32, rows, width);
        const Tensor more = Upload(y, type, rows, width, width + 8);

        Add(sum, more, device_bias, stream());
        Add(plain, more, nullptr, stream());

        const auto found = Download(sum), without = Download(plain);
        for (size_t i = 0; i < count; ++i) {
          ASSERT_EQ(without[i], x[i] + y[i]) << i;
          ASSERT_EQ(found[i], x[i] + y[i] + bias[i % width]) << i;
        }
      }
    }
  }
}

TEST_F(RowsTest, AddsABiasToEveryRow) {
  for (const DType type : {kF32, kBF16}) {
    for (const int width : {8, 36, 257, 1024}) {
      const auto x = Rounded(Random(static_cast<size_t>(9 * width), 1), type);
      const auto bias = Random(static_cast<size_t>(width), 3);
      const Tensor sum = Upload(x, type, 9, width, width + 24);

      AddBias(sum, Upload(bias), stream());

      const auto found = Download(sum);
      for (size_t i = 0; i < x.size(); ++i) {
        ASSERT_EQ(found[i], Rounded(x[i] + bias[i % width], type)) << i;
      }
    }
  }
}

TEST_F(RowsTest, MultipliesUpBySiluOfTheGate) {
  for (const DType type : {kF32, kBF16}) {
    for (const int rows : {1, 3, 17}) {
      for (const int width : {8, 20, 257, 1408}) {
        auto values = Rounded(Random(static_cast<size_t>(rows * 2 * width), 1), type);
        values[0] = -200, values[1] = 200;
        const Tensor both = Upload(values, type, rows, 2 * width);
        const Tensor out = Poisoned(type, rows, width);

        SiluMul(both, out, stream());

        const auto found = Download(out);
        for (int n = 0; n < rows; ++n) {
          for (int i = 0; i < width; ++i) {
            const double gate = values[static_cast<size_t>(n * 2 * width + i)];
            const double up = values[static_cast<size_t>(n * 2 * width + width + i)];
            const double expected = reference::Silu(gate) * up;
            ASSERT_TRUE(Near(found[n * width + i], expected, std::abs(expected), type));
          }
          const Tensor alone = Poisoned(type, 1, width);
          SiluMul(both.Rows(n, 1), alone, stream());
          ExpectAlone(found, n, alone);
        }
      }
    }
  }
}

TEST_F(RowsTest, EmbedsTheTokensOfItsShardAndZerosForOthers) {
  struct Table {
    Stored stored;
    int width, padding;
  };
  const int out = 40, first = 100;
  const std::vector<int32_t> tokens = {100, 139, 140, 99, 0, 117, 117};
  for (const Table& t :
       {Table{Stored::kF32, 36, 0}, Table{Stored::kF32, 64, 8}, Table{Stored::kBF16, 36, 0},
        Table{Stored::kBF16, 20, 4}, Table{Stored::kBF16, 576, 0}, Table{Stored::kE4M3, 80, 0},
        Table{Stored::kE4M3, 256, 16}, Table{Stored::kInt4, 384, 0}}) {
    const TestMatrix table = UploadMatrix(Random(static_cast<size_t>(out * t.width), 1), out,
                                          t.width, t.stored, t.padding);
    BatchView batch;
    batch.rows = static_cast<int>(tokens.size());
    batch.tokens = Upload(tokens);
    const Tensor x = Poisoned(kF32, batch.rows, t.width);

    Embed(batch, first, table.matrix, x, stream());

    const auto found = Download(x);
    for (size_t n = 0; n < tokens.size(); ++n) {
      const int row = tokens[n] - first;
      for (int i = 0; i < t.width; ++i) {
        const float expected =
            row < 0 || row >= out ? 0 : table.values[static_cast<size_t>(row * t.width + i)];
        ASSERT_EQ(found[n * t.width + i], expected) << "format " << static_cast<int>(t.stored);
      }
    }
  }
}

TEST_F(RowsTest, SelectsRowsInTheOrderAskedFor) {
  const std::vector<int32_t> chosen = {4, 0, 6, 6};
  for (const DType type : {kF32, kBF16}) {
    for (const int width : {8, 36, 577}) {
      const auto values = Rounded(Random(static_cast<size_t>(7 * width), 1), type);
      BatchView batch;
      batch.logits_rows = 4, batch.logits = Upload(chosen);
      const Tensor out = Poisoned(type, 4, width);

      SelectRows(batch, Upload(values, type, 7, width), out, stream());

      const auto found = Download(out);
      for (int i = 0; i < 4 * width; ++i) {
        ASSERT_EQ(found[i], values[static_cast<size_t>(chosen[i / width] * width + i % width)]);
      }
    }
  }
}

TEST_F(RowsTest, SeesWhatEarlierKernelsWroteHoweverEarlyItStarts) {
  const int rows = 33, width = 1024;
  const size_t count = size_t{rows} * width;
  const float* gain = Upload(Random(width, 2));
  std::vector<std::vector<float>> found;
  for (const bool waits : {true, false}) {
    const Tensor x = Upload(Random(count, 1), kF32, rows, width);
    const Tensor y = Poisoned(kBF16, rows, width), half = Poisoned(kBF16, rows, width / 2);
    for (int i = 0; i < 20; ++i) {
      RmsNorm(x, 1, gain, 1e-5f, y, stream());
      if (waits) Sync();
      SiluMul(y, half, stream());
      if (waits) Sync();
      Add(x.Columns(i % 2 * width / 2, width / 2), half, gain, stream());
      if (waits) Sync();
    }
    found.push_back(Download(x));
  }

  EXPECT_EQ(BitsOf(found[0]), BitsOf(found[1]));
}

TEST_F(RowsTest, SumsRanksInTheirOrder) {
  for (const int size : {1, 2, 3, 8}) {
    const int64_t count = 1001;
    const auto parts = Random(static_cast<size_t>(size * count), 1);
    float* x = Poisoned<float>(count);

    SumRanks(Upload(parts), size, count, x, stream());

    const auto found = Download(x, count);
    for (int64_t i = 0; i < count; ++i) {
      float sum = parts[i];
      for (int rank = 1; rank < size; ++rank) sum += parts[rank * count + i];
      ASSERT_EQ(found[i], sum);
    }
  }
}

// Bytes of a pool whose every element says where it is.
std::vector<uint8_t> Counted(size_t bytes, int salt) {
  std::vector<uint8_t> values(bytes);
  for (size_t i = 0; i < bytes; ++i) values[i] = static_cast<uint8_t>(i * 7 + i / 251 + salt);
  return values;
}

TEST_F(RowsTest, CopiesTheFirstTokensOfABlockOnEveryLayer) {
  struct Pool {
    Stored stored;
    int bytes, heads, width;
  };
  const int layers = 3, blocks = 5, from = 1, to = 4;
  for (const Pool& p : {Pool{Stored::kBF16, 2, 2, 64}, Pool{Stored::kF32, 4, 1, 18},
                        Pool{Stored::kE4M3, 1, 3, 80}, Pool{Stored::kE4M3, 1, 1, 6}}) {
    for (const int tokens : {0, 1, 7, 16}) {
      const int64_t token = int64_t{p.width} * p.bytes, head = kKvBlock * token;
      const int64_t block = p.heads * head, layer = blocks * block;
      auto keys = Counted(static_cast<size_t>(layers * layer), 1);
      auto values = Counted(static_cast<size_t>(layers * layer), 2);
      const KvView kv{Upload(keys), Upload(values), p.stored, p.heads, p.width};

      CopyBlock(kv, layers, blocks * kv.block_stride(), {from, to, tokens}, stream());

      for (int l = 0; l < layers; ++l) {
        for (int h = 0; h < p.heads; ++h) {
          for (auto* pool : {&keys, &values}) {
            uint8_t* at = pool->data() + l * layer + h * head;
            std::copy_n(at + from * block, tokens * token, at + to * block);
          }
        }
      }
      EXPECT_EQ(Download(static_cast<const uint8_t*>(kv.keys), keys.size()), keys);
      EXPECT_EQ(Download(static_cast<const uint8_t*>(kv.values), values.size()), values);
    }
  }
}

}  // namespace
}  // namespace conclave::worker::cuda
