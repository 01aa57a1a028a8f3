#include "worker/backend/cuda/batch_upload.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace conclave::worker::cuda {
namespace {

constexpr size_t kLeastRegion = size_t{1} << 20;  // So that it seldom grows.

// Hands out places in a region, each aligned to 64 bytes.
class Places {
 public:
  template <typename T>
  size_t Take(size_t count) {
    const size_t at = size_;
    size_ = (size_ + count * sizeof(T) + 63) / 64 * 64;
    return at;
  }
  size_t size() const { return size_; }

 private:
  size_t size_ = 0;
};

int PowerOfTwo(size_t count) { return static_cast<int>(std::bit_ceil(std::max<size_t>(count, 1))); }

template <typename T>
void Put(const std::vector<T>& from, void* region, size_t at) {
  if (!from.empty())
    std::memcpy(static_cast<char*>(region) + at, from.data(), from.size() * sizeof(T));
}

// Whether no run reads what another one, or an earlier row of its own, writes in this step.
bool AreApart(const std::vector<Run>& runs) {
  constexpr size_t kMost = 64;  // More are no few.
  if (runs.size() > kMost) return false;
  for (const Run& writer : runs) {
    if (writer.rows != 1) return false;
    const int32_t place = writer.position / kKvBlock, block = writer.blocks[place];
    for (const Run& reader : runs) {
      if (&reader == &writer) continue;
      if (reader.position / kKvBlock >= place && reader.blocks[place] == block) return false;
    }
  }
  return true;
}

}  // namespace

int64_t RowBucket(int64_t rows) {
  for (const int64_t small : {0, 1, 2, 4, 8, 12, 16, 24, 32, 48, 64}) {
    if (rows <= small) return small;
  }
  return (rows + 31) / 32 * 32;
}

// The batch row by row.
struct BatchUpload::Rows {
  std::vector<int32_t> tokens, positions, tables, logits, blocks;
  std::vector<const int32_t*> host_tables;
};

absl::Status BatchUpload::Begin(const Batch& batch, const BatchRules& rules, int32_t scratch_block,
                                const int32_t* drawn, cudaStream_t stream) {
  batch_ = batch;
  rules_ = rules;
  scratch_block_ = scratch_block;
  drawn_ = drawn;
  return LayOut(stream);
}

absl::Status BatchUpload::PlanFor(int window, cudaStream_t stream, DecodeView* plan) {
  const auto has_window = [window](const Planned& each) { return each.window == window; };
  auto found = std::find_if(windows_.begin(), windows_.end(), has_window);
  if (found == windows_.end()) {
    windows_.emplace_back().window = window;
    moved_ = true;
    RETURN_IF_ERROR(LayOut(stream));
    found = windows_.end() - 1;
  }
  const char* region = static_cast<const char*>(region_.data());
  *plan = {window, reinterpret_cast<const DecodeItem*>(region + found->items_at),
           reinterpret_cast<const int32_t*>(region + found->rows_at), found->num_items,
           found->max_pieces};
  return absl::OkStatus();
}

void BatchUpload::Expand(Rows* rows) const {
  rows->blocks = {scratch_block_};  // The table of padded rows.
  rows->tokens.assign(batch_.tokens.begin(), batch_.tokens.end());
  rows->logits.assign(batch_.logits_rows.begin(), batch_.logits_rows.end());
  for (const Run& run : batch_.runs) {
    const auto table = static_cast<int32_t>(rows->blocks.size());
    rows->blocks.insert(rows->blocks.end(), run.blocks, run.blocks + run.num_blocks);
    for (int32_t i = 0; i < run.rows; ++i) {
      rows->positions.push_back(run.position + i);
      rows->tables.push_back(table);
      rows->host_tables.push_back(run.blocks);
    }
  }
  CHECK(rows->positions.size() == rows->tokens.size());
  if (!rules_.pad || batch_.prompt_rows > 0) return;
  const auto bucket = [](size_t count) {
    return static_cast<size_t>(RowBucket(static_cast<int64_t>(count)));
  };
  const size_t padded = bucket(rows->tokens.size());
  rows->tokens.resize(padded, 0);
  rows->positions.resize(padded, 0);
  rows->tables.resize(padded, 0);
  rows->host_tables.resize(padded, &scratch_block_);
  rows->logits.resize(bucket(rows->logits.size()), 0);
}

void BatchUpload::Plan(const Rows& rows) {
  const auto first = rules_.prompt_tiles ? batch_.prompt_rows : 0;
  const std::vector<const int32_t*> tables(rows.host_tables.begin() + first,
                                           rows.host_tables.end());
  const std::vector<int32_t> offsets(rows.tables.begin() + first, rows.tables.end());
  const std::vector<int32_t> positions(rows.positions.begin() + first, rows.positions.end());
  const bool pad = rules_.pad && batch_.prompt_rows == 0;
  for (Planned& each : windows_) {
    each.plan = PlanDecode(tables, offsets, positions, each.window);
    each.num_items = static_cast<int>(each.plan.items.size());
    each.max_pieces = each.plan.max_pieces;
    if (pad) {
      each.num_items = PowerOfTwo(each.plan.items.size());
      each.max_pieces = PowerOfTwo(static_cast<size_t>(each.plan.max_pieces));
      each.plan.items.resize(static_cast<size_t>(each.num_items));
    }
  }
  prompt_tiles_.clear();
  if (first > 0) prompt_tiles_ = PlanPrefill(batch_.runs, batch_.prompt_rows, PrefillTileRows());
}

// What depends on the key alone comes first, the block tables last.
absl::Status BatchUpload::LayOut(cudaStream_t stream) {
  Rows rows;
  Expand(&rows);
  Plan(rows);
  Places places;
  const size_t tokens = places.Take<int32_t>(rows.tokens.size());
  const size_t positions = places.Take<int32_t>(rows.tokens.size());
  const size_t tables = places.Take<int32_t>(rows.tokens.size());
  const size_t logits = places.Take<int32_t>(rows.logits.size());
  const size_t tiles = places.Take<PrefillTile>(prompt_tiles_.size());
  for (Planned& each : windows_) {
    const auto items = static_cast<size_t>(each.num_items);
    each.items_at = places.Take<DecodeItem>(items);
    each.rows_at = places.Take<int32_t>(std::max(items * kItemRows, each.plan.item_rows.size()));
  }
  const size_t blocks = places.Take<int32_t>(rows.blocks.size());
  RETURN_IF_ERROR(region_.Reserve(std::max(places.size(), kLeastRegion), stream, &moved_));
  ASSIGN_OR_RETURN(void* const host, staging_.Next(places.size()));
  Put(rows.tokens, host, tokens);
  Put(rows.positions, host, positions);
  Put(rows.tables, host, tables);
  Put(rows.logits, host, logits);
  Put(prompt_tiles_, host, tiles);
  for (const Planned& each : windows_) {
    Put(each.plan.items, host, each.items_at);
    Put(each.plan.item_rows, host, each.rows_at);
  }
  Put(rows.blocks, host, blocks);
  RETURN_IF_ERROR(staging_.CopyTo(region_.data(), places.size(), stream));

  const auto at = [this](size_t offset) {
    return reinterpret_cast<const int32_t*>(static_cast<const char*>(region_.data()) + offset);
  };
  view_ = {static_cast<int>(rows.tokens.size()),
           batch_.prompt_rows,
           static_cast<int>(rows.logits.size()),
           /*apart=*/false,
           at(tokens),
           at(positions),
           at(tables),
           at(blocks),
           at(logits),
           drawn_};
  view_.apart = AreApart(batch_.runs);
  attend_view_ = view_;
  if (!rules_.prompt_tiles) attend_view_.prompt_rows = 0;
  tiles_ = reinterpret_cast<const PrefillTile*>(at(tiles));
  num_tiles_ = static_cast<int>(prompt_tiles_.size());
  key_ = {view_.rows, view_.prompt_rows, view_.logits_rows, view_.apart ? 1 : 0};
  for (const Planned& each : windows_) {
    key_.insert(key_.end(), {each.window, each.num_items, each.max_pieces});
  }
  return absl::OkStatus();
}

}  // namespace conclave::worker::cuda
