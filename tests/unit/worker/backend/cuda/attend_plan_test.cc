#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <utility>

#include "worker/backend/cuda/attend.h"

namespace conclave::worker::cuda {
namespace {

constexpr int kPieceBlocks = kPiece / kKvBlock;

// Produced rows, with their tables one after another as in BatchView::blocks.
struct Rows {
  std::vector<std::vector<int32_t>> sequences;
  std::vector<int> sequence_of;
  std::vector<int32_t> positions;

  void Add(int sequence, int32_t position) {
    sequence_of.push_back(sequence);
    positions.push_back(position);
  }
  std::vector<int32_t> Blocks() const {
    std::vector<int32_t> blocks;
    for (const auto& table : sequences) blocks.insert(blocks.end(), table.begin(), table.end());
    return blocks;
  }
  DecodePlan Plan(int window) const {
    std::vector<int32_t> starts;
    int32_t start = 0;
    for (const auto& table : sequences) {
      starts.push_back(start);
      start += static_cast<int32_t>(table.size());
    }
    std::vector<const int32_t*> tables;
    std::vector<int32_t> offsets;
    for (const int sequence : sequence_of) {
      tables.push_back(sequences[sequence].data());
      offsets.push_back(starts[sequence]);
    }
    return PlanDecode(tables, offsets, positions, window);
  }
};

// Every row's every visible piece is in one item, with the row's own blocks and all it sees.
void ExpectWhole(const Rows& rows, int window) {
  const DecodePlan plan = rows.Plan(window);
  const std::vector<int32_t> blocks = rows.Blocks();
  std::map<std::pair<int, int>, int> found;
  for (const DecodeItem& item : plan.items) {
    ASSERT_GT(item.rows, 0);
    ASSERT_LE(item.rows, kItemRows);
    ASSERT_LT(item.piece, plan.max_pieces);
    if (item.rows > 1) {
      ASSERT_EQ(item.from, 0);
      ASSERT_EQ(item.to, kPiece);
    }
    for (int i = 0; i < item.rows; ++i) {
      const int row = plan.item_rows[item.first + i];
      const int position = rows.positions[row], start = item.piece * kPiece;
      const int first = window > 0 ? std::max(0, position - window + 1) : 0;
      ++found[{row, item.piece}];
      ASSERT_EQ(item.from, std::max(0, first - start)) << "row " << row;
      ASSERT_EQ(item.to, std::min(kPiece, position + 1 - start)) << "row " << row;
      ASSERT_LT(item.from, item.to);
      for (int t = item.from; t < item.to; ++t) {
        const int block = t / kKvBlock;
        ASSERT_EQ(blocks[item.blocks + block],
                  rows.sequences[rows.sequence_of[row]][item.piece * kPieceBlocks + block]);
      }
    }
  }
  std::map<std::pair<int, int>, int> wanted;
  int most = 0;
  for (size_t row = 0; row < rows.positions.size(); ++row) {
    const int last = rows.positions[row];
    const int first = window > 0 ? std::max(0, last - window + 1) : 0;
    for (int piece = first / kPiece; piece <= last / kPiece; ++piece) {
      wanted[{static_cast<int>(row), piece}] = 1;
    }
    most = std::max(most, last / kPiece + 1);
  }
  EXPECT_EQ(found, wanted);
  EXPECT_EQ(plan.max_pieces, most);
}

// Item counts by number of rows.
std::map<int, int> Sizes(const DecodePlan& plan) {
  std::map<int, int> sizes;
  for (const DecodeItem& item : plan.items) ++sizes[item.rows];
  return sizes;
}

// `count` tables of `blocks` blocks, the first `shared` of which they have in common.
Rows Family(int count, int shared, int blocks) {
  Rows rows;
  int32_t next = 0;
  for (int i = 0; i < count; ++i) {
    std::vector<int32_t> table;
    for (int b = 0; b < blocks; ++b) {
      table.push_back(i > 0 && b < shared ? rows.sequences[0][b] : next++);
    }
    rows.sequences.push_back(std::move(table));
  }
  return rows;
}

TEST(AttendPlanTest, EveryVisiblePieceIsInOneItem) {
  std::mt19937 generator(1);
  const auto below = [&](int n) {
    return static_cast<int>(generator() % static_cast<unsigned>(n));
  };
  for (int i = 0; i < 200; ++i) {
    // A tree: each sequence begins as some earlier one does.
    Rows rows;
    int32_t next = 1;
    for (int s = 1 + below(12); s > 0; --s) {
      std::vector<int32_t> table;
      if (!rows.sequences.empty() && below(4) != 0) {
        table = rows.sequences[below(static_cast<int>(rows.sequences.size()))];
        table.resize(below(static_cast<int>(table.size())) + 1);
      }
      for (int b = below(60) + 1; b > 0; --b) table.push_back(next++);
      rows.sequences.push_back(std::move(table));
    }
    for (int n = 1 + below(40); n > 0; --n) {
      const int sequence = below(static_cast<int>(rows.sequences.size()));
      const int tokens = static_cast<int>(rows.sequences[sequence].size()) * kKvBlock;
      rows.Add(sequence, below(3) == 0 ? tokens - 1 : below(tokens));
    }
    for (const int window : {0, 1, 100, 256, 300, 1000}) ExpectWhole(rows, window);
  }
}

TEST(AttendPlanTest, AFamilyReadsItsPromptOnce) {
  for (const int agents : {2, 8, 16}) {
    Rows rows = Family(agents, 32 * kPieceBlocks, 33 * kPieceBlocks);
    for (int i = 0; i < agents; ++i) rows.Add(i, 32 * kPiece + 10 * i);
    EXPECT_EQ(Sizes(rows.Plan(0)), (std::map<int, int>{{1, agents}, {agents, 32}}));
  }
}

TEST(AttendPlanTest, LargeFamiliesTakeSeveralItems) {
  Rows rows = Family(40, 3 * kPieceBlocks, 4 * kPieceBlocks);
  for (int i = 0; i < 40; ++i) rows.Add(i, 3 * kPiece);
  EXPECT_EQ(Sizes(rows.Plan(0)), (std::map<int, int>{{1, 40}, {8, 3}, {16, 6}}));
}

TEST(AttendPlanTest, BranchesShareWhatTheyHaveInCommon) {
  // Two and two: all share a piece, the first two and the last two another.
  Rows rows = Family(4, kPieceBlocks, 3 * kPieceBlocks);
  for (const int i : {1, 3}) {
    std::copy_n(rows.sequences[i - 1].begin(), 2 * kPieceBlocks, rows.sequences[i].begin());
  }
  for (int i = 0; i < 4; ++i) rows.Add(i, 3 * kPiece - 1);
  EXPECT_EQ(Sizes(rows.Plan(0)), (std::map<int, int>{{1, 4}, {2, 2}, {4, 1}}));
}

TEST(AttendPlanTest, RowsOfOneSequenceShareWhatAllOfThemSee) {
  Rows rows = Family(1, 0, 8 * kPieceBlocks);
  for (int i = 0; i < 16; ++i) rows.Add(0, 4 * kPiece + 100 + i);
  EXPECT_EQ(Sizes(rows.Plan(0)), (std::map<int, int>{{1, 16}, {16, 4}}));
  // The window's first piece, too, is each row's own.
  EXPECT_EQ(Sizes(rows.Plan(3 * kPiece)), (std::map<int, int>{{1, 32}, {16, 2}}));
}

TEST(AttendPlanTest, BlocksBehindTheWindowDoNotMatter) {
  Rows rows = Family(2, 4 * kPieceBlocks, 5 * kPieceBlocks);
  rows.sequences[1][0] = 99999;  // Freed long ago.
  for (int i = 0; i < 2; ++i) rows.Add(i, 4 * kPiece);
  EXPECT_EQ(Sizes(rows.Plan(2 * kPiece + 1)), (std::map<int, int>{{1, 2}, {2, 2}}));
}

}  // namespace
}  // namespace conclave::worker::cuda
