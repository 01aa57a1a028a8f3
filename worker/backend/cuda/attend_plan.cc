#include <algorithm>
#include <cstring>

#include "worker/backend/cuda/attend.h"

namespace conclave::worker::cuda {
namespace {

constexpr int kPieceBlocks = kPiece / kKvBlock;

class DecodePlanner {
 public:
  DecodePlanner(const std::vector<const int32_t*>& tables, const std::vector<int32_t>& offsets,
                const std::vector<int32_t>& positions, int window)
      : tables_(tables), offsets_(offsets), positions_(positions), window_(window) {}

  DecodePlan Plan() {
    const int rows = static_cast<int>(positions_.size());
    for (int row = 0; row < rows; ++row) {
      plan_.item_rows.push_back(row);  // Row n alone is at n.
      AddRow(row);
    }
    plan_.items.reserve(pieces_);
    std::vector<int32_t> entries = begin_;
    std::sort(entries.begin(), entries.end());
    entries.erase(std::unique(entries.begin(), entries.end()), entries.end());
    // Where rows enter (their window starts there), groups are made anew.
    for (size_t i = 0; i < entries.size(); ++i) {
      std::vector<int32_t> seeing;
      for (int row = 0; row < rows; ++row) {
        if (begin_[row] <= entries[i] && entries[i] < end_[row]) seeing.push_back(row);
      }
      Share(std::move(seeing), entries[i], i + 1 < entries.size() ? entries[i + 1] : INT32_MAX);
    }
    return std::move(plan_);
  }

 private:
  struct Member {
    int32_t row = 0;
    int32_t same = 0;  // Its first piece that it doesn't share with the group's leader.
  };

  // Notes which pieces the row sees all of, and adds items of its own for those it sees in part.
  void AddRow(int32_t row) {
    const int32_t seen = positions_[row] + 1;
    const int32_t first = window_ > 0 ? std::max(0, seen - window_) : 0;
    const int32_t begin = (first + kPiece - 1) / kPiece, end = seen / kPiece;
    begin_.push_back(begin);
    end_.push_back(end);
    const int32_t last = (seen - 1) / kPiece;
    pieces_ += static_cast<size_t>(last - first / kPiece + 1);
    plan_.max_pieces = std::max(plan_.max_pieces, last + 1);
    if (first % kPiece != 0) AddPart(row, first / kPiece, first, seen);
    if (seen % kPiece != 0 && (first % kPiece == 0 || last != first / kPiece)) {
      AddPart(row, last, first, seen);
    }
  }

  // The row alone, with what it sees of the piece: [first, end) is what it sees of all.
  void AddPart(int32_t row, int32_t piece, int32_t first, int32_t end) {
    const int32_t start = piece * kPiece;
    plan_.items.push_back({.first = row,
                           .rows = 1,
                           .blocks = offsets_[row] + piece * kPieceBlocks,
                           .piece = piece,
                           .from = std::max(first - start, 0),
                           .to = std::min(end - start, kPiece),
                           .own = OwnOf(row, piece)});
  }

  // Adds whole pieces [from, to) for rows item_rows[first, first + rows).
  void AddWhole(int32_t first, int32_t rows, int32_t from, int32_t to) {
    for (; rows > 0; first += kItemRows, rows -= kItemRows) {
      const int32_t offset = offsets_[plan_.item_rows[first]];
      for (int32_t piece = from; piece < to; ++piece) {
        plan_.items.push_back({.first = first,
                               .rows = std::min(rows, kItemRows),
                               .blocks = offset + piece * kPieceBlocks,
                               .piece = piece,
                               .from = 0,
                               .to = kPiece,
                               .own = rows == 1 ? OwnOf(plan_.item_rows[first], piece) : -1});
      }
    }
  }

  // Where in the piece the row's own position is, or -1.
  int32_t OwnOf(int32_t row, int32_t piece) const {
    return positions_[row] / kPiece == piece ? positions_[row] % kPiece : -1;
  }

  const int32_t* BlocksOf(int32_t row, int32_t piece) const {
    return tables_[row] + piece * kPieceBlocks;
  }

  // The first piece in [piece, limit) where the tables differ, or limit.
  int32_t SameUntil(int32_t a, int32_t b, int32_t piece, int32_t limit) const {
    if (tables_[a] == tables_[b]) return limit;
    for (const int32_t stride : {16, 1}) {  // Far, then exactly.
      while (piece + stride <= limit &&
             std::memcmp(BlocksOf(a, piece), BlocksOf(b, piece),
                         sizeof(int32_t) * kPieceBlocks * static_cast<size_t>(stride)) == 0) {
        piece += stride;
      }
    }
    return piece;
  }

  // Adds items for these rows' whole pieces [piece, until); all of them see `piece`.
  void Share(std::vector<int32_t> rows, int32_t piece, int32_t until) {
    // Rows that may share stand together; first the one that sees most, which will lead.
    std::sort(rows.begin(), rows.end(), [&](int32_t a, int32_t b) {
      const int32_t block_a = *BlocksOf(a, piece), block_b = *BlocksOf(b, piece);
      if (block_a != block_b) return block_a < block_b;
      return end_[a] != end_[b] ? end_[a] > end_[b] : a < b;
    });
    while (!rows.empty()) {
      const int32_t leader = rows.front();
      const int32_t block = *BlocksOf(leader, piece);
      std::vector<int32_t> others;
      std::vector<Member> group;
      for (size_t i = 1; i < rows.size(); ++i) {
        const int32_t row = rows[i];
        const bool may = *BlocksOf(row, piece) == block;
        const int32_t same =
            may ? SameUntil(leader, row, piece, std::min(end_[row], until)) : piece;
        if (same > piece) {
          group.push_back({row, same});
        } else {
          others.push_back(row);
        }
      }
      AddGroup(leader, std::move(group), piece, until);
      rows = std::move(others);
    }
  }

  void AddGroup(int32_t leader, std::vector<Member> group, int32_t piece, int32_t until) {
    std::sort(group.begin(), group.end(), [](const Member& a, const Member& b) {
      return a.same != b.same ? a.same > b.same : a.row < b.row;
    });
    while (!group.empty()) {
      const int32_t next = group.back().same;
      const auto first = static_cast<int32_t>(plan_.item_rows.size());
      plan_.item_rows.push_back(leader);
      for (const Member& member : group) plan_.item_rows.push_back(member.row);
      AddWhole(first, static_cast<int32_t>(group.size()) + 1, piece, next);
      // Those that part here may go on together.
      std::vector<int32_t> parted;
      for (; !group.empty() && group.back().same == next; group.pop_back()) {
        const int32_t row = group.back().row;
        if (next < std::min(end_[row], until)) parted.push_back(row);
      }
      if (!parted.empty()) Share(std::move(parted), next, until);
      piece = next;
    }
    AddWhole(leader, 1, piece, std::min(end_[leader], until));
  }

  const std::vector<const int32_t*>& tables_;
  const std::vector<int32_t>& offsets_;
  const std::vector<int32_t>& positions_;
  const int window_;
  std::vector<int32_t> begin_, end_;  // By row: the whole pieces that it sees.
  size_t pieces_ = 0;                 // Of all rows.
  DecodePlan plan_;
};

}  // namespace

DecodePlan PlanDecode(const std::vector<const int32_t*>& tables,
                      const std::vector<int32_t>& offsets, const std::vector<int32_t>& positions,
                      int window) {
  return DecodePlanner(tables, offsets, positions, window).Plan();
}

}  // namespace conclave::worker::cuda
