#include "tests/fakes/fake_step_runner.h"

#include <algorithm>
#include <set>
#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace conclave::worker {
namespace {

// SplitMix64's finaliser: every bit of the input reaches every bit of the output.
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

uint64_t KvAfter(uint64_t before, TokenId token, int position) {
  return Mix(before ^ Mix(static_cast<uint64_t>(token) << 32 | static_cast<uint32_t>(position)));
}

bool HasPenalty(const Sampling& sampling) {
  return sampling.repetition_penalty != 1 || sampling.presence_penalty != 0 ||
         sampling.frequency_penalty != 0;
}

}  // namespace

GroupShape SmallShape() {
  GroupShape shape;
  shape.vocab_size = 1000;
  shape.max_positions = 512;
  shape.max_slots = 16;
  shape.max_rows = 64;
  shape.max_samples = 16;
  shape.pools = {{.num_blocks = 64}};
  shape.weights_hash = "fake";
  shape.numerics = "fake/v1";
  return shape;
}

TokenEvent FakeDraw(uint64_t seed, AgentId agent, int index, std::span<const TokenId> history,
                    int vocab_size) {
  uint64_t kv = 0;
  for (size_t i = 0; i < history.size(); ++i) kv = KvAfter(kv, history[i], static_cast<int>(i));
  const uint64_t draw =
      Mix(kv ^ Mix(seed ^ Mix(static_cast<uint64_t>(agent) << 32 | static_cast<uint32_t>(index))));
  TokenEvent event;
  event.id = static_cast<TokenId>(draw % static_cast<uint64_t>(vocab_size));
  event.logprob = -static_cast<float>(draw >> 40 & 0xff) / 64.0f;
  event.top_logprob_mean = -static_cast<float>(draw >> 48 & 0xff) / 16.0f;
  return event;
}

FakeStepRunner::FakeStepRunner(const GroupShape& shape) : shape_(shape), slots_(shape.max_slots) {
  int blocks = INT32_MAX;
  for (const KvPoolShape& pool : shape.pools) blocks = std::min(blocks, pool.num_blocks);
  blocks_.assign(blocks, std::vector<Cell>(kBlockTokens));
  users_.assign(blocks, 0);
}

void FakeStepRunner::HoldSteps() {
  absl::MutexLock lock(&mutex_);
  released_ = 0;
}

void FakeStepRunner::ReleaseSteps(int count) {
  absl::MutexLock lock(&mutex_);
  released_ += count;
}

void FakeStepRunner::ReleaseAllSteps() {
  absl::MutexLock lock(&mutex_);
  released_ = INT64_MAX;
}

void FakeStepRunner::FailNextStep(const absl::Status& why) {
  absl::MutexLock lock(&mutex_);
  failure_ = why;
}

FakeStepRunner::Totals FakeStepRunner::totals() const {
  absl::MutexLock lock(&mutex_);
  return totals_;
}

absl::Status FakeStepRunner::Submit(StepPlan plan) {
  CHECK(plan.number == ++last_number_ && results_.size() < 2);
  CHECK(!plan.rows.empty());
  for (const SlotChange& change : plan.slots) Change(change);
  Copy(plan.copies);
  CheckRows(plan);
  for (const Row& row : plan.rows) Write(row, plan.number);
  CheckKept();
  StepResult result{plan.number, {}};
  for (const SampleRequest& sample : plan.samples) result.tokens.push_back(Draw(plan, sample));
  results_.push_back(std::move(result));

  absl::MutexLock lock(&mutex_);
  ++totals_.steps;
  totals_.rows += static_cast<int64_t>(plan.rows.size());
  totals_.samples += static_cast<int64_t>(plan.samples.size());
  totals_.copies += static_cast<int64_t>(plan.copies.size());
  totals_.most_rows = std::max(totals_.most_rows, static_cast<int>(plan.rows.size()));
  for (const SlotChange& change : plan.slots) {
    totals_.opens += change.kind == SlotChange::Kind::kOpen ? 1 : 0;
    totals_.truncations += change.kind == SlotChange::Kind::kTruncate ? 1 : 0;
  }
  return absl::OkStatus();
}

absl::StatusOr<StepResult> FakeStepRunner::Await() {
  CHECK(!results_.empty());
  absl::MutexLock lock(&mutex_);
  const auto may_go = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return released_ > 0 || !failure_.ok();
  };
  mutex_.Await(absl::Condition(&may_go));
  if (!failure_.ok()) return failure_;
  if (released_ != INT64_MAX) --released_;
  StepResult result = std::move(results_.front());
  results_.pop_front();
  return result;
}

void FakeStepRunner::Change(const SlotChange& change) {
  CHECK(change.slot >= 0 && change.slot < shape_.max_slots);
  Slot& slot = slots_[change.slot];
  CHECK(slot.open == (change.kind != SlotChange::Kind::kOpen));
  switch (change.kind) {
    case SlotChange::Kind::kOpen:
      slot = Slot{};
      slot.open = true;
      slot.seed = change.seed;
      slot.agent = change.agent;
      slot.has_penalty = HasPenalty(change.sampling);
      slot.rules = change.rules;
      slot.history = change.history;
      CHECK(slot.has_penalty == !slot.history.empty());
      AppendBlocks(slot, change.blocks);
      break;
    case SlotChange::Kind::kAppend:
      AppendBlocks(slot, change.blocks);
      break;
    case SlotChange::Kind::kTruncate:
      DropBlocks(slot, static_cast<size_t>(change.position + kBlockTokens - 1) / kBlockTokens);
      CHECK(slot.covered == change.position);  // The engine forgets samples, never KV.
      if (slot.has_penalty) {
        slot.history.resize(std::min(slot.history.size(), static_cast<size_t>(change.position)));
      }
      break;
    case SlotChange::Kind::kClose:
      DropBlocks(slot, 0);
      slot.open = false;
      break;
  }
}

void FakeStepRunner::AppendBlocks(Slot& slot, const std::vector<std::vector<BlockId>>& blocks) {
  CHECK(blocks.size() == shape_.pools.size());
  for (const auto& pool : blocks) CHECK(pool == blocks.front());
  for (const BlockId block : blocks.front()) {
    CHECK(block >= 0 && block < static_cast<BlockId>(blocks_.size()));
    CHECK(std::find(slot.blocks.begin(), slot.blocks.end(), block) == slot.blocks.end());
    slot.blocks.push_back(block);
    ++users_[block];
  }
}

void FakeStepRunner::DropBlocks(Slot& slot, size_t keep) {
  CHECK(keep <= slot.blocks.size());
  for (size_t i = keep; i < slot.blocks.size(); ++i) --users_[slot.blocks[i]];
  slot.blocks.resize(keep);
}

void FakeStepRunner::Copy(const std::vector<BlockCopy>& copies) {
  std::set<BlockId> from, to;
  for (const BlockCopy& copy : copies) {
    if (copy.pool != 0) continue;  // All pools are alike.
    from.insert(copy.from);
    CHECK(to.insert(copy.to).second);
  }
  CHECK(std::none_of(to.begin(), to.end(), [&](BlockId id) { return from.contains(id); }));
  for (const BlockCopy& copy : copies) {
    if (copy.pool != 0) continue;
    CHECK(copy.tokens > 0 && copy.tokens < kBlockTokens);
    std::vector<Cell>& target = blocks_[copy.to];
    std::fill(target.begin(), target.end(), Cell{});
    for (int i = 0; i < copy.tokens; ++i) {
      CHECK(blocks_[copy.from][i].written);
      target[i] = blocks_[copy.from][i];
    }
  }
}

void FakeStepRunner::CheckRows(const StepPlan& plan) const {
  CHECK(plan.rows.size() <= static_cast<size_t>(shape_.max_rows));
  CHECK(plan.samples.size() <= static_cast<size_t>(shape_.max_samples));
  std::set<SlotId> seen;
  for (size_t i = 0; i < plan.rows.size(); ++i) {
    const Row& row = plan.rows[i];
    CHECK(slots_[row.slot].open && row.position < shape_.max_positions);
    if (i > 0 && plan.rows[i - 1].slot == row.slot) {
      CHECK(row.position == plan.rows[i - 1].position + 1);
    } else {
      CHECK(seen.insert(row.slot).second);  // Rows of a slot stand together.
    }
  }
}

FakeStepRunner::Cell& FakeStepRunner::At(const Slot& slot, int position) {
  CHECK(position / kBlockTokens < static_cast<int>(slot.blocks.size()));
  return blocks_[slot.blocks[position / kBlockTokens]][position % kBlockTokens];
}

void FakeStepRunner::Write(const Row& row, uint64_t number) {
  Slot& slot = slots_[row.slot];
  TokenId token = row.token;
  if (token == kPreviousSample) {
    CHECK(slot.sampled_in + 1 == number);
    token = slot.last_sampled;
  }
  CHECK(token >= 0 && token < shape_.vocab_size);
  const std::vector<TokenId> before = Attended(slot, row.position);
  uint64_t kv = row.position == 0 ? 0 : At(slot, row.position - 1).kv;
  kv = KvAfter(kv, token, row.position);
  Cell& cell = At(slot, row.position);
  CheckUnread(slot.blocks[row.position / kBlockTokens], row);
  cell = {true, token, kv};
  slot.covered = row.position + 1;
  slot.last_kv = kv;
  if (!slot.has_penalty) return;
  if (row.position == static_cast<int>(slot.history.size())) slot.history.push_back(token);
  CHECK(slot.history[row.position] == token);
}

// Others may have the block in their tables, but only those that have not come as far.
void FakeStepRunner::CheckUnread(BlockId block, const Row& row) const {
  if (users_[block] == 1) return;
  for (SlotId id = 0; id < shape_.max_slots; ++id) {
    const Slot& other = slots_[id];
    if (!other.open || id == row.slot || other.covered <= row.position) continue;
    CHECK(std::find(other.blocks.begin(), other.blocks.end(), block) == other.blocks.end());
  }
}

// Nobody wrote over what an open slot still needs.
void FakeStepRunner::CheckKept() const {
  for (const Slot& slot : slots_) {
    if (!slot.open || slot.covered == 0) continue;
    const int last = slot.covered - 1;
    CHECK(blocks_[slot.blocks[last / kBlockTokens]][last % kBlockTokens].kv == slot.last_kv);
  }
}

// The tokens of the first `positions`, as the slot's blocks hold them.
std::vector<TokenId> FakeStepRunner::Attended(const Slot& slot, int positions) const {
  std::vector<TokenId> tokens;
  uint64_t kv = 0;
  for (int i = 0; i < positions; ++i) {
    CHECK(i / kBlockTokens < static_cast<int>(slot.blocks.size()));
    const Cell& cell = blocks_[slot.blocks[i / kBlockTokens]][i % kBlockTokens];
    kv = KvAfter(kv, cell.token, i);
    CHECK(cell.written && cell.kv == kv);
    tokens.push_back(cell.token);
  }
  return tokens;
}

TokenEvent FakeStepRunner::Draw(const StepPlan& plan, const SampleRequest& sample) {
  CHECK(sample.row >= 0 && sample.row < static_cast<int>(plan.rows.size()));
  const Row& row = plan.rows[sample.row];
  Slot& slot = slots_[sample.slot];
  CHECK(slot.open && slot.sampled_in != plan.number);
  const std::vector<TokenId> history = Attended(slots_[row.slot], row.position + 1);
  if (slot.has_penalty) CHECK(slot.history == history);
  TokenEvent event = FakeDraw(slot.seed, slot.agent, sample.index, history, shape_.vocab_size);
  if (script_) event.id = script_(slot.agent, sample.index);
  const std::vector<TokenId>& barred = slot.rules.barred;
  while (sample.index < slot.rules.barred_until &&
         std::find(barred.begin(), barred.end(), event.id) != barred.end()) {
    event.id = (event.id + 1) % shape_.vocab_size;
  }
  if (slot.rules.top_logprobs > 0) event.told.push_back({.id = event.id, .logprob = event.logprob});
  for (int i = 0; i < slot.rules.top_logprobs; ++i) {
    event.told.push_back({.id = (event.id + i) % shape_.vocab_size,
                          .logprob = event.logprob - static_cast<float>(i)});
  }
  slot.sampled_in = plan.number;
  slot.last_sampled = event.id;
  return event;
}

}  // namespace conclave::worker
