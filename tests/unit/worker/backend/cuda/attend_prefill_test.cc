#include <numeric>

#include "tests/reference/ops.h"
#include "tests/unit/worker/backend/cuda/rig.h"
#include "worker/backend/cuda/attend.h"

namespace conclave::worker::cuda {
namespace {

// Of an attention layer.
struct Layer {
  int heads = 1, kv_heads = 1, width = 64;
  int window = 0;
  DType type = DType::kBF16;  // Of q and out.
  Stored stored = Stored::kBF16;
};

// Rows [start, start + rows) of a sequence that has `length` positions in the pool.
struct Chunk {
  int sequence = 0, start = 0, rows = 0;
};

// Sequences with their keys, values and queries; a pool in which they lie scattered among NaN, and
// runs of AttendPrefill over it.
class AttendPrefillTest : public Rig {
 protected:
  void Make(const Layer& layer, const std::vector<int>& lengths) {
    layer_ = layer;
    lengths_ = lengths;
    tables_.clear();
    keys_.clear();
    values_.clear();
    queries_.clear();
    int blocks = 0;
    for (const int length : lengths) blocks += (length + kKvBlock - 1) / kKvBlock;
    std::vector<int32_t> order(static_cast<size_t>(blocks + 3));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(9));
    const size_t kv_width = static_cast<size_t>(layer.kv_heads) * layer.width;
    std::vector<float> pool[2];
    for (auto& p : pool) p.assign(order.size() * kKvBlock * kv_width, NAN);
    uint32_t seed = 1;
    for (const int length : lengths) {
      const size_t count = (length + kKvBlock - 1) / kKvBlock;
      tables_.emplace_back(order.end() - count, order.end());
      order.resize(order.size() - count);
      keys_.push_back(Stored_(Random(length * kv_width, seed++)));
      values_.push_back(Stored_(Random(length * kv_width, seed++)));
      queries_.push_back(Rounded(
          Random(static_cast<size_t>(length) * layer.heads * layer.width, seed++), layer.type));
      for (int at = 0; at < length; ++at) {
        for (int head = 0; head < layer.kv_heads; ++head) {
          const size_t to =
              ((static_cast<size_t>(tables_.back()[at / kKvBlock]) * layer.kv_heads + head) *
                   kKvBlock +
               at % kKvBlock) *
              layer.width;
          const size_t from = (static_cast<size_t>(at) * layer.kv_heads + head) * layer.width;
          std::copy_n(keys_.back().begin() + from, layer.width, pool[0].begin() + to);
          std::copy_n(values_.back().begin() + from, layer.width, pool[1].begin() + to);
        }
      }
    }
    kv_ = {UploadStored(pool[0]), UploadStored(pool[1]), layer.stored, layer.kv_heads, layer.width};
  }

  // What the rows of these chunks, in one batch, attend to: [rows][H * E]. Blocks that no row of a
  // chunk sees are not in its table.
  std::vector<float> Attend(const std::vector<Chunk>& chunks) {
    const int64_t cols = int64_t{layer_.heads} * layer_.width;
    std::vector<int32_t> positions, tables, blocks;
    std::vector<float> q;
    std::vector<worker::Run> runs;
    for (const Chunk& chunk : chunks) {
      const std::vector<int32_t>& table = tables_[chunk.sequence];
      const int first =
          layer_.window > 0 ? std::max(0, chunk.start - layer_.window + 1) / kKvBlock : 0;
      const int end = (chunk.start + chunk.rows + kKvBlock - 1) / kKvBlock;
      runs.push_back({static_cast<int32_t>(positions.size()), chunk.rows, chunk.start, nullptr, 0});
      for (int i = 0; i < chunk.rows; ++i) {
        positions.push_back(chunk.start + i);
        tables.push_back(static_cast<int32_t>(blocks.size()));
      }
      for (int b = 0; b < end; ++b) blocks.push_back(b < first ? -1000000000 : table[b]);
      const auto from = queries_[chunk.sequence].begin() + chunk.start * cols;
      q.insert(q.end(), from, from + chunk.rows * cols);
    }
    const auto rows = static_cast<int64_t>(positions.size());
    AttendArgs args;
    args.batch.rows = args.batch.prompt_rows = static_cast<int>(rows);
    args.batch.positions = Upload(positions);
    args.batch.tables = Upload(tables);
    args.batch.blocks = Upload(blocks);
    args.q = Upload(q, layer_.type, rows, cols, cols + 8);
    args.out = Poisoned(layer_.type, rows + 1, cols, cols + 16);
    args.kv = kv_;
    args.scale = kScale;
    args.window = layer_.window;
    const std::vector<PrefillTile> tiles =
        PlanPrefill(runs, static_cast<int>(rows), PrefillTileRows());
    args.tiles = Upload(tiles);
    args.num_tiles = static_cast<int>(tiles.size());
    AttendPrefill(args, stream());
    std::vector<float> out = Download(args.out);
    for (auto v = out.begin() + rows * cols; v != out.end(); ++v) {
      EXPECT_TRUE(std::isnan(*v)) << "written past the last row";
    }
    out.resize(static_cast<size_t>(rows * cols));
    return out;
  }

  // Whether `out` is what the chunk's rows attend to, in every head of every `every`th row and the
  // last one.
  void ExpectNear(const std::vector<float>& out, const Chunk& chunk, int every) {
    const int width = layer_.width;
    for (int i = 0; i < chunk.rows;
         i = i + 1 == chunk.rows ? chunk.rows : std::min(i + every, chunk.rows - 1)) {
      const int position = chunk.start + i;
      const int first = layer_.window > 0 ? std::max(0, position - layer_.window + 1) : 0;
      for (int head = 0; head < layer_.heads; ++head) {
        const auto q = queries_[chunk.sequence].begin() +
                       (static_cast<ptrdiff_t>(position) * layer_.heads + head) * width;
        std::vector<std::vector<float>> keys, values, magnitudes;
        for (int at = first; at <= position; ++at) {
          const ptrdiff_t from = (static_cast<ptrdiff_t>(at) * layer_.kv_heads +
                                  head / (layer_.heads / layer_.kv_heads)) *
                                 width;
          const auto copy = [&](const std::vector<float>& of) {
            return std::vector<float>(of.begin() + from, of.begin() + from + width);
          };
          keys.push_back(copy(keys_[chunk.sequence]));
          values.push_back(copy(values_[chunk.sequence]));
          magnitudes.push_back(values.back());
          for (float& v : magnitudes.back()) v = std::abs(v);
        }
        const std::vector<float> query(q, q + width);
        const std::vector<double> expected = reference::Attend(query, keys, values, kScale);
        const std::vector<double> terms = reference::Attend(query, keys, magnitudes, kScale);
        for (int e = 0; e < width; ++e) {
          const float found = out[(static_cast<size_t>(i) * layer_.heads + head) * width + e];
          // Weights are rounded to bf16 too.
          const double weights = layer_.type == DType::kBF16 ? terms[e] * (1e5 / 256) : terms[e];
          ASSERT_TRUE(Near(found, expected[e], weights, layer_.type))
              << "position " << position << ", head " << head << ", e " << e;
        }
      }
    }
  }

  static constexpr float kScale = 0.11F;

  Layer layer_;
  std::vector<int> lengths_;

 private:
  std::vector<float> Stored_(std::vector<float> values) const {
    if (layer_.stored == Stored::kE4M3) {
      for (float& v : values) v = RoundedE4M3(v);
      return values;
    }
    return Rounded(std::move(values), layer_.stored == Stored::kBF16 ? DType::kBF16 : DType::kF32);
  }
  void* UploadStored(const std::vector<float>& values) {
    if (layer_.stored == Stored::kE4M3) {
      std::vector<__nv_fp8_e4m3> bytes(values.begin(), values.end());
      return Upload(bytes);
    }
    return Upload(values, layer_.stored == Stored::kBF16 ? DType::kBF16 : DType::kF32, 1,
                  static_cast<int64_t>(values.size()))
        .data;
  }

  KvView kv_;
  std::vector<std::vector<int32_t>> tables_;                 // Of each sequence.
  std::vector<std::vector<float>> keys_, values_, queries_;  // [positions][heads][E] of each.
};

// The rows of `out` [rows][cols] from `first`, as bits.
std::vector<uint32_t> RowBits(const std::vector<float>& out, int64_t cols, int first, int rows) {
  return BitsOf({out.begin() + first * cols, out.begin() + (first + rows) * cols});
}

TEST_F(AttendPrefillTest, AttendsToAllEarlierPositions) {
  for (const auto& [start, rows] : std::vector<std::pair<int, int>>{
           {0, 1}, {0, 15}, {0, 16}, {5, 17}, {0, 63}, {64, 64}, {0, 65}, {130, 63}, {5, 200}}) {
    Make({4, 2, 64}, {start + rows});
    const Chunk chunk = {0, start, rows};
    ExpectNear(Attend({chunk}), chunk, 7);
  }
}

TEST_F(AttendPrefillTest, ServesEveryGroupAndWidth) {
  const std::vector<Layer> layers = {{1, 1, 64},  {3, 1, 80},  {4, 1, 96}, {8, 1, 128}, {8, 2, 64},
                                     {2, 2, 128}, {2, 1, 256}, {2, 1, 16}, {2, 1, 48},  {3, 1, 24}};
  for (const Layer& layer : layers) {
    Make(layer, {150});
    const Chunk chunk = {0, 64, 86};
    ExpectNear(Attend({chunk}), chunk, 17);
  }
}

TEST_F(AttendPrefillTest, ReadsKeysOfOneByte) {
  for (const int width : {64, 80, 96, 128, 256, 24}) {
    Layer layer = {4, 2, width};
    layer.stored = Stored::kE4M3;
    Make(layer, {205});
    for (const Chunk& chunk : {Chunk{0, 0, 65}, Chunk{0, 130, 75}}) {
      ExpectNear(Attend({chunk}), chunk, 17);
    }
  }
}

TEST_F(AttendPrefillTest, SeesOnlyItsWindow) {
  for (const int window : {1, 5, 64, 100}) {
    Layer layer = {2, 1, 64, window};
    for (const Stored stored : {Stored::kBF16, Stored::kE4M3}) {
      layer.stored = stored;
      Make(layer, {330});
      // From 133: the last row of a warp is the only one that a tile's first key is too old for.
      for (const Chunk& chunk :
           {Chunk{0, 0, 65}, Chunk{0, 63, 17}, Chunk{0, 130, 200}, Chunk{0, 133, 32}}) {
        ExpectNear(Attend({chunk}), chunk, 13);
      }
    }
  }
}

TEST_F(AttendPrefillTest, IsExactInF32) {
  for (const int window : {0, 5, 64}) {
    for (const int width : {8, 36, 64, 128}) {
      Layer layer = {6, 2, width, window, DType::kF32, Stored::kF32};
      Make(layer, {90});
      for (const Chunk& chunk : {Chunk{0, 0, 65}, Chunk{0, 70, 20}}) {
        ExpectNear(Attend({chunk}), chunk, 9);
      }
    }
  }
}

TEST_F(AttendPrefillTest, ARowHasTheSameBitsInAnyChunk) {
  const DType bf16 = DType::kBF16;
  for (const Layer& layer : std::vector<Layer>{{3, 1, 64},
                                               {2, 1, 80, 5},
                                               {2, 1, 64, 64},
                                               {1, 1, 128, 100},
                                               {3, 1, 64, 0, bf16, Stored::kE4M3},
                                               {2, 1, 96, 100, bf16, Stored::kE4M3}}) {
    Make(layer, {230});
    const int64_t cols = int64_t{layer.heads} * layer.width;
    const std::vector<float> whole = Attend({{0, 0, 230}});
    for (const auto& sizes : std::vector<std::vector<int>>{
             {64, 64, 64, 38}, {1, 15, 17, 1, 63, 128, 5}, {127, 2, 101}}) {
      int start = 0;
      for (const int rows : sizes) {
        EXPECT_EQ(RowBits(Attend({{0, start, rows}}), cols, 0, rows),
                  RowBits(whole, cols, start, rows))
            << "window " << layer.window << ", width " << layer.width << ", from " << start;
        start += rows;
      }
    }
  }
}

#ifdef CONCLAVE_CUDA_EMULATED
TEST_F(AttendPrefillTest, LittleSharedMemoryChangesNoBit) {
  for (const Stored stored : {Stored::kBF16, Stored::kE4M3}) {
    for (const int width : {64, 80, 96, 128}) {
      Make({2, 1, width, 0, DType::kBF16, stored}, {300});
      const std::vector<Chunk> chunks = {{0, 0, 230}, {0, 250, 50}};
      const std::vector<float> much = Attend(chunks);
      const LittleShared little;
      EXPECT_EQ(BitsOf(Attend(chunks)), BitsOf(much)) << "width " << width;
    }
  }
}
#endif

TEST_F(AttendPrefillTest, ARowHasTheSameBitsAmongOthers) {
  for (const int width : {40, 128, 256}) {
    const Layer layer = {4, 2, width};
    Make(layer, {140, 17, 150});
    const int64_t cols = int64_t{layer.heads} * width;
    const std::vector<Chunk> chunks = {{0, 3, 130}, {1, 0, 17}, {2, 64, 65}};
    const std::vector<float> together = Attend(chunks);
    int first = 0;
    for (const Chunk& chunk : chunks) {
      EXPECT_EQ(RowBits(Attend({chunk}), cols, 0, chunk.rows),
                RowBits(together, cols, first, chunk.rows))
          << width;
      first += chunk.rows;
    }
  }
}

TEST_F(AttendPrefillTest, PlansTheLongestTilesFirst) {
  const std::vector<worker::Run> runs = {{0, 130, 0, nullptr, 0},
                                         {130, 1, 7, nullptr, 0},
                                         {131, 260, 500, nullptr, 0},
                                         {391, 3, 9, nullptr, 0}};
  std::vector<std::pair<int, int>> tiles;
  for (const PrefillTile& tile : PlanPrefill(runs, 391, kPrefillTile)) {
    tiles.emplace_back(tile.first_row, tile.rows);
  }
  EXPECT_EQ(tiles, (std::vector<std::pair<int, int>>{
                       {387, 4}, {259, 128}, {131, 128}, {128, 2}, {0, 128}, {130, 1}}));
  EXPECT_TRUE(PlanPrefill({}, 0, kPrefillTile).empty());
}

}  // namespace
}  // namespace conclave::worker::cuda
