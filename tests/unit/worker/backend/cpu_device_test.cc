#include "worker/backend/cpu/cpu_device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

#include "tests/reference/ops.h"
#include "tests/unit/worker/backend/cpu_rig.h"

namespace conclave::worker {
namespace {

constexpr int kAwkward[] = {1, 3, 7, 15, 16, 17, 33, 100};

std::vector<float> Multiply(Device& device, std::vector<float>& x, int in, std::vector<float> w,
                            DType dtype) {
  auto weight = PackRows(device, w, in, dtype);
  const int64_t rows = static_cast<int64_t>(x.size()) / in, out = weight->out();
  std::vector<float> y(static_cast<size_t>(rows * out));
  device.Linear(Tensor::Dense(x.data(), rows, in), 0, *weight,
                /*add=*/false, Tensor::Dense(y.data(), rows, out));
  return y;
}

TEST(CpuDeviceTest, ProductsAreTheReferencesWithinRounding) {
  const auto device = *MakeCpuDevice("auto");
  for (const int in : kAwkward) {
    for (const int out : kAwkward) {
      std::vector<float> x = Random(3 * in, 1), w = Random(in * out, 2);

      const std::vector<float> y = Multiply(*device, x, in, w, DType::kF32);

      for (int r = 0; r < 3; ++r) {
        const std::vector<double> expected = reference::Linear(w, x.data() + r * in, in);
        for (int o = 0; o < out; ++o) {
          ASSERT_NEAR(y[r * out + o], expected[o], 4 * 1.2e-7 * in) << in << "x" << out;
        }
      }
    }
  }
}

TEST(CpuDeviceTest, EveryInstructionSetAndThreadCountGivesTheSameBits) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const int size : kAwkward) {
      std::vector<float> x = Random(5 * size, 3);
      const std::vector<float> w = Random(size * 37, 4);
      std::vector<float> first;
      for (const auto& device : AllDevices()) {
        const std::vector<float> y = Multiply(*device, x, size, w, dtype);
        if (first.empty()) first = y;
        ASSERT_EQ(std::memcmp(first.data(), y.data(), y.size() * 4), 0) << device->name() << size;
      }
    }
  }
}

// Every half there is, subnormal ones, zeros and infinities too; times 1 it is itself.
TEST(CpuDeviceTest, EveryHalfIsReadExactly) {
  std::vector<float> x = {1}, halves;
  for (uint32_t bits = 0; bits < 1 << 16; ++bits) {
    const float value = static_cast<float>(std::bit_cast<_Float16>(static_cast<uint16_t>(bits)));
    halves.push_back(std::isnan(value) ? 0 : value);
  }
  for (const auto& device : AllDevices()) {
    const std::vector<float> y = Multiply(*device, x, 1, halves, DType::kF16);
    const auto weight = PackRows(*device, halves, 1, DType::kF16);
    std::vector<float> row(1);
    for (size_t i = 0; i < halves.size(); ++i) {
      ASSERT_EQ(y[i], halves[i]) << device->name();
      Batch batch;
      batch.tokens = {static_cast<TokenId>(i)};
      batch.runs = {{0, 1, 0, nullptr, 0}};
      device->Begin(batch);
      device->Embed(0, *weight, Tensor::Dense(row.data(), 1, 1));
      ASSERT_EQ(row[0], halves[i]) << device->name();
    }
  }
}

TEST(CpuDeviceTest, ARowsProductDoesNotDependOnTheOtherRows) {
  const auto device = *MakeCpuDevice("auto");
  const int in = 33, out = 100;
  std::vector<float> x = Random(11 * in, 5);
  const std::vector<float> w = Random(in * out, 6);
  const std::vector<float> together = Multiply(*device, x, in, w, DType::kF32);

  for (int r = 0; r < 11; ++r) {
    std::vector<float> alone(x.begin() + r * in, x.begin() + (r + 1) * in);
    const std::vector<float> y = Multiply(*device, alone, in, w, DType::kF32);
    EXPECT_EQ(std::memcmp(y.data(), together.data() + r * out, out * 4), 0) << r;
  }
}

TEST(CpuDeviceTest, NormAndSiluAreTheReferences) {
  for (const auto& device : AllDevices()) {
    for (const int width : kAwkward) {
      std::vector<float> x = Random(width, 7), gain = Random(width, 8), y(width);
      const auto expected = reference::RmsNorm(x, gain, 1e-5);
      device->RmsNorm(Tensor::Dense(x.data(), 1, width), 1, gain.data(), 1e-5f,
                      Tensor::Dense(y.data(), 1, width));
      // Of the input 1, the columns of a matrix [2 width, 1] are gate and up themselves.
      std::vector<float> one = {1}, columns = x, gate(width);
      columns.insert(columns.end(), gain.begin(), gain.end());
      device->GateUp(Tensor::Dense(one.data(), 1, 1), 0,
                     *PackRows(*device, columns, 1, DType::kF32), nullptr,
                     Tensor::Dense(gate.data(), 1, width));
      for (int i = 0; i < width; ++i) {
        ASSERT_NEAR(y[i], expected[i], 1e-5 * (1 + std::abs(expected[i])));
        ASSERT_NEAR(gate[i], reference::Silu(x[i]) * gain[i], 1e-5 * (1 + std::abs(gain[i])));
      }
    }
  }
}

// One layer, two KV heads of width E; positions go to blocks in falling order.
struct AttentionCase {
  static constexpr int kKvHeads = 2;
  int width, positions, window, group = 2;  // Query heads of each KV head.
  int heads() const { return kKvHeads * group; }
};

std::vector<float> RunAttention(Device& device, const AttentionCase& c, bool compare) {
  const int q_width = c.heads() * c.width, kv_width = c.kKvHeads * c.width;
  const int blocks = c.positions / 16 + 1;
  KvPool pool = *device.AllocateKv(1, blocks, c.kKvHeads, c.width);
  std::vector<int32_t> table(blocks);
  for (int b = 0; b < blocks; ++b) table[b] = blocks - 1 - b;
  Batch batch;
  batch.tokens.resize(c.positions);
  batch.runs = {{0, c.positions, 0, table.data(), blocks}};
  device.Begin(batch);
  std::vector<float> q = Random(c.positions * q_width, 9), k = Random(c.positions * kv_width, 10);
  std::vector<float> v = Random(c.positions * kv_width, 11), out(q.size());
  const std::vector<float> cos(c.positions * c.width / 2, 1.0f),
      sin(c.positions * c.width / 2, 0.0f);
  const Tensor queries = Tensor::Dense(q.data(), c.positions, q_width);
  device.RopeStore(queries, Tensor::Dense(k.data(), c.positions, kv_width),
                   Tensor::Dense(v.data(), c.positions, kv_width), {cos.data(), sin.data()}, pool,
                   0);
  device.Attend(queries, pool, 0, 0.3f, c.window, Tensor::Dense(out.data(), c.positions, q_width));
  for (int p = 0; compare && p < c.positions; p += 13) {
    for (int h = 0; h < c.heads(); ++h) {
      std::vector<std::vector<float>> keys, values;
      for (int t = c.window > 0 ? std::max(0, p - c.window + 1) : 0; t <= p; ++t) {
        const auto at = t * kv_width + h / c.group * c.width;
        keys.emplace_back(k.begin() + at, k.begin() + at + c.width);
        values.emplace_back(v.begin() + at, v.begin() + at + c.width);
      }
      const auto at = p * q_width + h * c.width;
      const auto expected =
          reference::Attend({q.begin() + at, q.begin() + at + c.width}, keys, values, 0.3);
      for (int e = 0; e < c.width; ++e) EXPECT_NEAR(out[at + e], expected[e], 2e-5) << p;
    }
  }
  return out;
}

TEST(CpuDeviceTest, AttentionOverPagedBlocksIsTheReferences) {
  const auto device = *MakeCpuDevice("auto");
  for (const AttentionCase c : {AttentionCase{8, 40, 0},
                                {20, 17, 0},
                                {32, 300, 0},
                                {16, 600, 0},
                                {16, 90, 9},
                                {16, 90, 30, 1},
                                {20, 150, 100, 7},
                                {48, 80, 0, 4},
                                {32, 600, 300, 3}}) {
    RunAttention(*device, c, /*compare=*/true);
  }
}

TEST(CpuDeviceTest, AttentionHasTheSameBitsWithEverySet) {
  for (const AttentionCase c : {AttentionCase{20, 300, 0}, AttentionCase{16, 90, 30, 7}}) {
    std::vector<float> first;
    for (const auto& device : AllDevices()) {
      const std::vector<float> out = RunAttention(*device, c, /*compare=*/false);
      if (first.empty()) first = out;
      EXPECT_EQ(std::memcmp(first.data(), out.data(), out.size() * 4), 0) << device->name();
    }
  }
}

TEST(CpuDeviceTest, AHeadsBitsDoNotDependOnTheHeadsBesideIt) {
  for (const auto& device : AllDevices()) {
    const int width = 20, positions = 150, heads = 7;
    const std::vector<float> q = Random(heads * width, 9), k = Random(positions * width, 10),
                             v = Random(positions * width, 11);
    const auto attend = [&](int first, int count) {
      KvPool pool = *device->AllocateKv(1, positions / 16 + 1, 1, width);
      std::vector<int32_t> table(positions / 16 + 1);
      std::iota(table.begin(), table.end(), 0);
      const std::vector<float> cos(positions * width / 2, 1.0f), sin(positions * width / 2, 0.0f);
      Batch batch;
      batch.tokens.resize(positions);
      batch.runs = {{0, positions, 0, table.data(), static_cast<int32_t>(table.size())}};
      device->Begin(batch);
      std::vector<float> queries, keys = k, values = v;
      for (int p = 0; p < positions; ++p)
        queries.insert(queries.end(), q.begin() + first * width,
                       q.begin() + (first + count) * width);
      std::vector<float> out(queries.size());
      const Tensor rows = Tensor::Dense(queries.data(), positions, count * width);
      device->RopeStore(rows, Tensor::Dense(keys.data(), positions, width),
                        Tensor::Dense(values.data(), positions, width), {cos.data(), sin.data()},
                        pool, 0);
      device->Attend(rows, pool, 0, 0.3f, 100, Tensor::Dense(out.data(), positions, count * width));
      return out;
    };
    const std::vector<float> together = attend(0, heads);
    for (int h = 0; h < heads; ++h) {
      const std::vector<float> alone = attend(h, 1);
      for (int p = 0; p < positions; ++p) {
        ASSERT_EQ(std::memcmp(alone.data() + p * width, together.data() + (p * heads + h) * width,
                              width * sizeof(float)),
                  0)
            << device->name() << ", head " << h << ", position " << p;
      }
    }
  }
}

TEST(CpuDeviceTest, ACopiedBlockHoldsItsFirstTokensOnly) {
  const auto device = *MakeCpuDevice("auto");
  KvPool pool = *device->AllocateKv(2, 2, 1, 4);
  const size_t block = 2 * 2 * 4 * 16;
  for (size_t i = 0; i < block / 2; ++i) pool.keys->floats()[i] = static_cast<float>(i + 1);

  device->CopyBlock(pool, 0, 1, 3);

  for (int e = 0; e < 4; ++e) {
    for (int t = 0; t < 16; ++t) {
      const float copied = pool.keys->floats()[4 * 16 + e * 16 + t];
      EXPECT_EQ(copied, t < 3 ? static_cast<float>(e * 16 + t + 1)
                              : static_cast<float>(64 + e * 16 + t + 1));
    }
  }
}

TEST(CpuDeviceTest, AnUnknownOrMissingSetIsRefused) {
  EXPECT_EQ(MakeCpuDevice("sse9").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeCpuDevice("auto", 0).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace conclave::worker
