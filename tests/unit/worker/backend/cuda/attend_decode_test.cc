#include <numeric>
#include <tuple>

#include "tests/reference/ops.h"
#include "tests/unit/worker/backend/cuda/rig.h"
#include "worker/backend/cuda/attend.h"
#include "worker/backend/cuda/rows.h"

namespace conclave::worker::cuda {
namespace {

struct Heads {
  int heads = 1, kv_heads = 1, width = 64;
};

struct Types {
  DType q = DType::kBF16;
  Stored kv = Stored::kBF16;
};
constexpr Types kBF16{DType::kBF16, Stored::kBF16};
constexpr Types kE4M3{DType::kBF16, Stored::kE4M3};
constexpr Types kF32{DType::kF32, Stored::kF32};

struct Row {
  int sequence = 0, position = 0;
};

// A pool and the sequences that are in it. What no sequence has written is NaN.
class AttendDecodeTest : public Rig {
 protected:
  void Make(Heads heads, Types types) {
    heads_ = heads;
    types_ = types;
    sequences_.clear();
    blocks_used_ = 0;
    keys_.assign(size_t{kBlocks} * BlockSize(), NAN);
    values_ = keys_;
  }

  // A sequence of `tokens` tokens that begins with the first `shared` blocks of another.
  int AddSequence(int tokens, int other = 0, int shared = 0) {
    std::vector<int32_t> table;
    for (int b = 0; b * kKvBlock < tokens; ++b) {
      if (b < shared) {
        table.push_back(sequences_[other][b]);
        continue;
      }
      // Blocks in no order.
      const int32_t block = blocks_used_++ * 37 % kBlocks;
      EXPECT_LT(blocks_used_, kBlocks);
      table.push_back(block);
      const int written = std::min(tokens - b * kKvBlock, kKvBlock);
      const std::vector<float> numbers = Random(2 * BlockSize(), static_cast<uint32_t>(block));
      for (size_t i = 0; i < BlockSize(); ++i) {
        if (static_cast<int>(i) / heads_.width % kKvBlock >= written) continue;
        keys_[block * BlockSize() + i] = RoundedKv(numbers[i]);
        values_[block * BlockSize() + i] = RoundedKv(numbers[BlockSize() + i]);
      }
    }
    sequences_.push_back(std::move(table));
    return static_cast<int>(sequences_.size()) - 1;
  }

  // The sequence goes on with the same blocks, again and again. REQUIRES: they are full.
  void Repeat(int sequence, int times) {
    const std::vector<int32_t> once = sequences_[sequence];
    for (int i = 1; i < times; ++i) {
      sequences_[sequence].insert(sequences_[sequence].end(), once.begin(), once.end());
    }
  }

  std::vector<float> QueryOf(Row row) const {
    const auto seed = static_cast<uint32_t>(row.sequence * 100003 + row.position);
    return Rounded(Random(static_cast<size_t>(heads_.heads * heads_.width), seed), types_.q);
  }
  float scale() const { return 1 / std::sqrt(static_cast<float>(heads_.width)); }

  // Outputs of rows that stand behind some prompt rows.
  // There is room for so many more pieces than are needed, as for a graph.
  std::vector<std::vector<float>> Attend(const std::vector<Row>& rows, int window = 0,
                                         int more_pieces = 1) {
    constexpr int kPromptRows = 2;
    std::vector<int32_t> blocks, starts;
    for (const auto& table : sequences_) {
      starts.push_back(static_cast<int32_t>(blocks.size()));
      blocks.insert(blocks.end(), table.begin(), table.end());
    }
    const int64_t columns = int64_t{heads_.heads} * heads_.width;
    std::vector<const int32_t*> tables;
    std::vector<int32_t> offsets, positions, all_positions(kPromptRows, 0);
    std::vector<float> queries(kPromptRows * columns, NAN);
    for (const Row& row : rows) {
      tables.push_back(sequences_[row.sequence].data());
      offsets.push_back(starts[row.sequence]);
      positions.push_back(row.position);
      const std::vector<float> query = QueryOf(row);
      queries.insert(queries.end(), query.begin(), query.end());
    }
    all_positions.insert(all_positions.end(), positions.begin(), positions.end());
    std::vector<int32_t> all_tables(kPromptRows, 0);
    all_tables.insert(all_tables.end(), offsets.begin(), offsets.end());
    DecodePlan plan = PlanDecode(tables, offsets, positions, window);
    plan.items.resize(plan.items.size() + 3);  // As for a graph.

    const int n = static_cast<int>(rows.size()), all_rows = kPromptRows + n;
    AttendArgs args;
    args.batch.rows = all_rows;
    args.batch.prompt_rows = kPromptRows;
    args.batch.positions = Upload(all_positions);
    args.batch.tables = Upload(all_tables);
    args.batch.blocks = Upload(blocks);
    args.q = Upload(queries, types_.q, all_rows, columns, columns + 16);
    args.out = Poisoned(types_.q, all_rows, columns, columns + 8);
    args.kv = {UploadKv(keys_), UploadKv(values_), types_.kv, heads_.kv_heads, heads_.width};
    args.scale = scale();
    args.window = window;
    args.items = Upload(plan.items);
    args.item_rows = Upload(plan.item_rows);
    args.num_items = static_cast<int>(plan.items.size());
    args.max_pieces = plan.max_pieces + more_pieces;
    args.parts = Poisoned<float>(
        static_cast<size_t>(PartFloats(n, heads_.heads, heads_.width, args.max_pieces)));
    AttendDecode(args, stream());
    const std::vector<float> out = Download(args.out);
    for (int64_t i = 0; i < kPromptRows * columns; ++i) EXPECT_TRUE(std::isnan(out[i]));
    std::vector<std::vector<float>> result;
    for (int i = 0; i < n; ++i) {
      const auto from = out.begin() + (kPromptRows + i) * columns;
      result.emplace_back(from, from + columns);
    }
    return result;
  }

  struct Outcome {
    bool one_kernel = false;
    std::vector<uint32_t> out;
    std::vector<uint8_t> keys, values;  // The pool, afterwards.
  };
  // Rows that are a whole batch, from their queries, keys and values before they are rotated: by
  // one kernel where that can be and is wanted.
  Outcome RopeAndAttend(const std::vector<Row>& rows, int window, int more_pieces,
                        bool one_kernel) {
    std::vector<int32_t> blocks, offsets, positions;
    std::vector<const int32_t*> tables;
    for (const Row& row : rows) {
      const std::vector<int32_t>& table = sequences_[row.sequence];
      tables.push_back(table.data());
      offsets.push_back(static_cast<int32_t>(blocks.size()));
      positions.push_back(row.position);
      blocks.insert(blocks.end(), table.begin(), table.end());
    }
    const int n = static_cast<int>(rows.size());
    const int last = *std::max_element(positions.begin(), positions.end());
    DecodePlan plan = PlanDecode(tables, offsets, positions, window);
    plan.items.resize(plan.items.size() + 2);
    const int64_t width = heads_.width, columns = heads_.heads * width;
    const int64_t kv_columns = heads_.kv_heads * width, all = columns + 2 * kv_columns;
    const Tensor qkv = Upload(Rounded(Random(static_cast<size_t>(n * all), 71), types_.q), types_.q,
                              n, all, all + 8);
    const Tensor q = qkv.Columns(0, columns), k = qkv.Columns(columns, kv_columns);
    const Tensor v = qkv.Columns(columns + kv_columns, kv_columns);
    const auto angles = static_cast<size_t>((last + 1) * width / 2);
    const float *cos = Upload(Random(angles, 72)), *sin = Upload(Random(angles, 73));

    AttendArgs args;
    args.batch.rows = n;
    args.batch.apart = true;
    args.batch.positions = Upload(positions);
    args.batch.tables = Upload(offsets);
    args.batch.blocks = Upload(blocks);
    args.q = q;
    args.out = Poisoned(types_.q, n, columns);
    args.kv = {UploadKv(keys_), UploadKv(values_), types_.kv, heads_.kv_heads, heads_.width};
    args.scale = scale();
    args.window = window;
    args.items = Upload(plan.items);
    args.item_rows = Upload(plan.item_rows);
    args.num_items = static_cast<int>(plan.items.size());
    args.max_pieces = plan.max_pieces + more_pieces;
    args.parts = Poisoned<float>(
        static_cast<size_t>(PartFloats(n, heads_.heads, heads_.width, args.max_pieces)));
    Outcome outcome;
    const FewInputs inputs = {k, v, cos, sin};
    outcome.one_kernel = one_kernel && CanAttendFew(args, inputs);
    if (outcome.one_kernel) {
      AttendFew(args, inputs, stream());
    } else {
      RopeStore(args.batch, q, k, v, cos, sin, args.kv, stream());
      AttendDecode(args, stream());
    }
    outcome.out = BitsOf(Download(args.out));
    const size_t bytes = keys_.size() * (types_.kv == Stored::kE4M3 ? 1 : 2);
    outcome.keys = Download(static_cast<const uint8_t*>(args.kv.keys), bytes);
    outcome.values = Download(static_cast<const uint8_t*>(args.kv.values), bytes);
    return outcome;
  }
  void ExpectOneKernelIsTwo(const std::vector<Row>& rows, int window, int more_pieces) {
    SCOPED_TRACE(testing::Message()
                 << "heads " << heads_.heads << "/" << heads_.kv_heads << " of " << heads_.width
                 << ", position " << rows[0].position << ", window " << window);
    const Outcome two = RopeAndAttend(rows, window, more_pieces, false);
    const Outcome one = RopeAndAttend(rows, window, more_pieces, true);
    EXPECT_EQ(one.one_kernel, heads_.width <= 128);
    EXPECT_EQ(one.out, two.out);
    EXPECT_EQ(one.keys, two.keys);
    EXPECT_EQ(one.values, two.values);
  }

  void ExpectReference(Row row, int window, const std::vector<float>& found) const {
    const std::vector<float> queries = QueryOf(row);
    const int first = window > 0 ? std::max(0, row.position - window + 1) : 0;
    const int group = heads_.heads / heads_.kv_heads;
    for (int head = 0; head < heads_.heads; ++head) {
      std::vector<std::vector<float>> keys, values, sizes;
      for (int at = first; at <= row.position; ++at) {
        const size_t from = sequences_[row.sequence][at / kKvBlock] * BlockSize() +
                            static_cast<size_t>((head / group * kKvBlock + at % kKvBlock)) *
                                static_cast<size_t>(heads_.width);
        keys.emplace_back(keys_.begin() + from, keys_.begin() + from + heads_.width);
        values.emplace_back(values_.begin() + from, values_.begin() + from + heads_.width);
        sizes.push_back(values.back());
        for (float& v : sizes.back()) v = std::abs(v);
      }
      const auto query = queries.begin() + head * heads_.width;
      const std::vector<float> q(query, query + heads_.width);
      const std::vector<double> expected = reference::Attend(q, keys, values, scale());
      const std::vector<double> terms = reference::Attend(q, keys, sizes, scale());
      for (int e = 0; e < heads_.width; ++e) {
        // bf16: of weights, in their sum, and of the result, half a unit in the last place each.
        const double tolerance = types_.q == DType::kBF16 ? terms[e] * 3 / 512 : 1e-5 * terms[e];
        ASSERT_NEAR(found[head * heads_.width + e], expected[e], tolerance)
            << "position " << row.position << " head " << head << " column " << e;
      }
    }
  }

  // All rows together are right, and have the same bits backwards; some of them also alone.
  void Check(const std::vector<Row>& rows, int window = 0) {
    SCOPED_TRACE(testing::Message() << "heads " << heads_.heads << "/" << heads_.kv_heads << " of "
                                    << heads_.width << ", window " << window);
    const auto together = Attend(rows, window);
    for (size_t i = 0; i < rows.size(); ++i) {
      ExpectReference(rows[i], window, together[i]);
      if (HasFatalFailure()) return;
      if (rows.size() > 6 && i % 6 != 1) continue;
      EXPECT_EQ(BitsOf(Attend({rows[i]}, window)[0]), BitsOf(together[i])) << "row " << i;
    }
    const auto backwards = Attend({rows.rbegin(), rows.rend()}, window);
    for (size_t i = 0; i < rows.size(); ++i) {
      EXPECT_EQ(BitsOf(backwards[rows.size() - 1 - i]), BitsOf(together[i])) << "row " << i;
    }
  }

 private:
  static constexpr int kBlocks = 256;

  size_t BlockSize() const {
    return static_cast<size_t>(heads_.kv_heads) * kKvBlock * static_cast<size_t>(heads_.width);
  }
  float RoundedKv(float v) const {
    return types_.kv == Stored::kE4M3  ? RoundedE4M3(v)
           : types_.kv == Stored::kF32 ? v
                                       : Rounded(v, DType::kBF16);
  }
  void* UploadKv(const std::vector<float>& numbers) {
    if (types_.kv == Stored::kE4M3) {
      std::vector<__nv_fp8_e4m3> stored;
      for (const float v : numbers) stored.emplace_back(v);
      return Upload(stored);
    }
    return Upload(numbers, types_.kv == Stored::kF32 ? DType::kF32 : DType::kBF16, 1,
                  static_cast<int64_t>(numbers.size()))
        .data;
  }

  Heads heads_;
  Types types_;
  std::vector<std::vector<int32_t>> sequences_;
  int blocks_used_ = 0;
  std::vector<float> keys_, values_;  // As they are in the pool.
};

TEST_F(AttendDecodeTest, EveryLengthIsRight) {
  Make({2, 1, 64}, kBF16);
  std::vector<Row> rows;
  for (const int tokens : {1, 2, 16, 17, 64, 65, 255, 256, 257, 600}) {
    rows.push_back({AddSequence(tokens), tokens - 1});
  }
  Check(rows);
}

TEST_F(AttendDecodeTest, TheBitsAreThoseOfAnyNumberOfPieces) {
  for (const Types types : {kBF16, kE4M3, kF32}) {
    Make({4, 2, 80}, types);
    std::vector<Row> rows;
    for (const int tokens : {1, 40, 64, 65, 255, 256}) {
      rows.push_back({AddSequence(tokens), tokens - 1});
    }
    // Without a merge, and with either kind of merge.
    const auto one = Attend(rows, 0, 0);
    for (size_t i = 0; i < rows.size(); ++i) ExpectReference(rows[i], 0, one[i]);
    for (const int window : {0, 30}) {
      const auto few = Attend(rows, window, 0);
      for (const int more : {1, 90}) {
        const auto merged = Attend(rows, window, more);
        for (size_t i = 0; i < rows.size(); ++i) {
          EXPECT_EQ(BitsOf(few[i]), BitsOf(merged[i])) << "row " << i << ", " << more << " more";
        }
      }
    }
  }
  Make({2, 1, 16}, kBF16);
  const std::vector<Row> rows = {{AddSequence(1100), 1099}, {0, 700}, {0, 3}};
  EXPECT_EQ(BitsOf(Attend(rows, 0, 0)[0]), BitsOf(Attend(rows, 0, 90)[0]));
  EXPECT_EQ(BitsOf(Attend(rows, 0, 0)[1]), BitsOf(Attend(rows, 0, 90)[1]));
}

TEST_F(AttendDecodeTest, LongRowsAreRight) {
  for (const Types types : {kBF16, kE4M3}) {
    Make({1, 1, 16}, types);
    Repeat(AddSequence(1280), 30);  // 150 pieces.
    Check({{0, 38000}});
  }
}

TEST_F(AttendDecodeTest, EveryHeadWidthIsRight) {
  for (const Types types : {kBF16, kE4M3}) {
    for (const Heads heads : {Heads{1, 1, 16}, Heads{2, 2, 48}, Heads{2, 1, 80}, Heads{3, 1, 96},
                              Heads{4, 1, 128}, Heads{2, 1, 160}, Heads{2, 1, 256}}) {
      Make(heads, types);
      Check({{AddSequence(300), 299}, {AddSequence(20), 19}});
    }
  }
}

TEST_F(AttendDecodeTest, PlainArithmeticTakesAnyTypesAndWidth) {
  for (const Types types : {kF32, Types{DType::kF32, Stored::kBF16},
                            Types{DType::kF32, Stored::kE4M3}, Types{DType::kBF16, Stored::kF32}}) {
    for (const Heads heads : {Heads{2, 1, 8}, Heads{4, 2, 64}, Heads{1, 1, 5}, Heads{1, 1, 140}}) {
      Make(heads, types);
      Check({{AddSequence(300), 299}, {AddSequence(20), 19}});
      Check({{0, 256}, {0, 257}}, 100);
    }
  }
  for (const Stored stored : {Stored::kBF16, Stored::kE4M3}) {
    Make({2, 1, 24}, {DType::kBF16, stored});
    Check({{AddSequence(300), 299}});
  }
}

TEST_F(AttendDecodeTest, AFamilyHasTheBitsOfItsAgentsAlone) {
  // 20 agents: items of 16 and 4 rows, 1 to 4 tiles of query rows, or several blocks for an item.
  for (const auto& [heads, agents] :
       {std::tuple{Heads{1, 1, 64}, 20}, std::tuple{Heads{2, 1, 64}, 18},
        std::tuple{Heads{3, 1, 80}, 7}, std::tuple{Heads{8, 2, 128}, 9},
        std::tuple{Heads{10, 1, 32}, 16}}) {
    for (const Types types : {kBF16, kE4M3, kF32}) {
      if (heads.width > 64 && types.kv != Stored::kBF16) continue;  // Time.
      Make(heads, types);
      std::vector<Row> rows = {{AddSequence(261), 260}};
      for (int i = 1; i < agents; ++i) {
        const int tokens = 257 + i % 5;
        rows.push_back({AddSequence(tokens, 0, 16), tokens - 1});
      }
      Check(rows);
    }
  }
}

TEST_F(AttendDecodeTest, ReplayedRowsOfOneSequenceShare) {
  for (const Types types : {kBF16, kF32}) {
    Make({2, 1, 64}, types);
    const int sequence = AddSequence(520);
    std::vector<Row> rows;
    for (int i = 0; i < 10; ++i) rows.push_back({sequence, 508 + i});
    Check(rows);
    Check(rows, 300);
  }
}

TEST_F(AttendDecodeTest, OneKernelForARowHasTheBitsOfTwo) {
  for (const Types types : {kBF16, kE4M3}) {
    for (const Heads heads : {Heads{4, 1, 64}, Heads{4, 2, 128}, Heads{16, 1, 32}, Heads{3, 1, 80},
                              Heads{2, 2, 16}, Heads{9, 1, 64}, Heads{2, 1, 256}}) {
      Make(heads, types);
      AddSequence(600);
      for (const int position : {0, 15, 16, 255, 256, 599}) {
        ExpectOneKernelIsTwo({{0, position}}, 0, position % 2);
      }
      ExpectOneKernelIsTwo({{0, 599}}, 40, 1);
      if (heads.width != 64) continue;
      for (const int position : {1, 31, 63, 100, 254, 256}) {
        ExpectOneKernelIsTwo({{0, position}}, 40, position % 2);
      }
    }
  }
}

TEST_F(AttendDecodeTest, OneKernelForAFamilyHasTheBitsOfTwo) {
  for (const auto& [heads, agents] :
       {std::tuple{Heads{4, 1, 64}, 8}, std::tuple{Heads{1, 1, 128}, 20},
        std::tuple{Heads{4, 2, 80}, 3}, std::tuple{Heads{16, 1, 32}, 9}}) {
    for (const Types types : {kBF16, kE4M3}) {
      Make(heads, types);
      std::vector<Row> rows = {{AddSequence(512), 511}};
      for (int i = 1; i < agents; ++i) {
        const int tokens = i % 4 == 0 ? 512 : 258 + i;
        rows.push_back({AddSequence(tokens, 0, 16), tokens - 1});
      }
      for (const int window : {0, 300}) ExpectOneKernelIsTwo(rows, window, agents % 2);
    }
  }
}

#ifdef CONCLAVE_CUDA_EMULATED
TEST_F(AttendDecodeTest, OneKernelIsNotForABlockThatHasNoRoom) {
  const LittleShared little(163);  // Of compute capability 8.0.
  Make({4, 1, 128}, kBF16);
  std::vector<Row> rows;
  for (int i = 0; i < 5; ++i) rows.push_back({AddSequence(40 + i), 39 + i});
  EXPECT_TRUE(RopeAndAttend({rows[0]}, 0, 0, true).one_kernel);
  EXPECT_FALSE(RopeAndAttend(rows, 0, 0, true).one_kernel);  // 20 queries: room for 32.
}

TEST_F(AttendDecodeTest, LittleSharedMemoryChangesNoBit) {
  for (const Types types : {kBF16, kE4M3}) {
    for (const Heads heads : {Heads{4, 1, 64}, Heads{4, 1, 96}, Heads{8, 2, 128}}) {
      Make(heads, types);
      const std::vector<Row> rows = {{AddSequence(700), 699}, {AddSequence(20), 19}};
      const auto much = Attend(rows, 0);
      const LittleShared little;
      const auto found = Attend(rows, 0);
      for (size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(BitsOf(found[i]), BitsOf(much[i]));
    }
  }
}
#endif

TEST_F(AttendDecodeTest, WindowsHideWhatIsBehindThem) {
  for (const Types types : {kBF16, kE4M3, kF32}) {
    Make({2, 1, 64}, types);
    AddSequence(800);
    for (const int window : {1, 5, 64, 100, 256, 300}) {
      Check({{0, 0}, {0, 63}, {0, 255}, {0, 256}, {0, 700}, {0, 799}}, window);
    }
  }
}

}  // namespace
}  // namespace conclave::worker::cuda
