#include "worker/runner/model_runner.h"

#include <absl/time/clock.h>

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace conclave::worker {

uint64_t StepHash(const StepPlan& plan, const StepResult& result) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a over 64-bit words.
  const auto add = [&hash](uint64_t word) { hash = (hash ^ word) * 0x100000001b3u; };
  add(plan.number);
  for (size_t i = 0; i < result.tokens.size(); ++i) {
    add(static_cast<uint64_t>(plan.samples[i].slot));
    add(static_cast<uint64_t>(result.tokens[i].id));
  }
  return hash;
}

ModelRunner::ModelRunner(const RunnerOptions& options, Device& device, Collective& collective)
    : options_(options), device_(device), collective_(collective), slots_(options.max_slots) {}

absl::StatusOr<std::unique_ptr<ModelRunner>> ModelRunner::Create(const RunnerOptions& options,
                                                                 Device& device,
                                                                 Collective& collective) {
  if (options.max_slots < 1 || options.max_rows < 1 || options.kv_tokens < kBlockTokens) {
    return InvalidArgument("slots {}, rows {} and KV tokens {} must be at least 1, 1 and {}",
                           options.max_slots, options.max_rows, options.kv_tokens, kBlockTokens);
  }
  auto runner = std::unique_ptr<ModelRunner>(new ModelRunner(options, device, collective));
  const int rows = std::max(options.max_rows, options.max_slots);
  const size_t most_logits = static_cast<size_t>(device.Padded(options.max_slots));
  ASSIGN_OR_RETURN(runner->model_,
                   LoadModel(options.model_dir, device, collective, {rows, options.max_positions}));
  const ModelConfig& config = runner->model_->config();
  const Shard& shard = runner->model_->shard();
  const int blocks =
      static_cast<int>(std::min<int64_t>(options.kv_tokens / kBlockTokens, INT32_MAX / 2));
  ASSIGN_OR_RETURN(runner->pool_, device.AllocateKv(config.layers, blocks, shard.kv_heads.size(),
                                                    config.head_width));
  ASSIGN_OR_RETURN(runner->logits_,
                   device.Allocate(DType::kF32, most_logits * std::max(1, shard.vocab.size())));
  GroupShape& shape = runner->shape_;
  shape.tp = collective.size();
  shape.vocab_size = config.vocab;
  shape.max_positions = runner->model_->max_positions();
  shape.max_slots = options.max_slots;
  shape.max_rows = options.max_rows;
  shape.max_samples = options.max_slots;
  shape.kinds_differ = device.kinds_differ();
  shape.pools = {{blocks, 0}};
  shape.weights_hash = runner->model_->weights_hash();
  shape.numerics = fmt::format("{}/v{}", device.name(), kNumericsVersion);
  return runner;
}

absl::Status ModelRunner::OpenSlot(const SlotChange& change, Slot& slot) {
  if (slot.open) return InvalidArgument("slot {} is open already", change.slot);
  slot = Slot{};
  slot.open = true;
  slot.seed = change.seed, slot.agent = change.agent;
  slot.drawing = std::make_shared<const Drawing>(Drawing{change.sampling, change.rules});
  const Sampling& s = slot.drawing->sampling;
  slot.penalised = s.repetition_penalty != 1 || s.presence_penalty != 0 || s.frequency_penalty != 0;
  slot.history = change.history;
  slot.prompt_tokens = change.position;
  for (size_t i = 0; i < slot.history.size(); ++i) {
    ++slot.seen[slot.history[i]];
    if (static_cast<int>(i) >= slot.prompt_tokens) ++slot.produced[slot.history[i]];
  }
  return Append(change, slot);
}

absl::Status ModelRunner::Append(const SlotChange& change, Slot& slot) {
  if (change.blocks.size() > 1)
    return InvalidArgument("slot {} names {} pools", change.slot, change.blocks.size());
  for (const auto& blocks : change.blocks) {
    for (const BlockId block : blocks) {
      if (block < 0 || block >= shape_.pools[0].num_blocks) {
        return InvalidArgument("block {} of slot {} is not in 0..{}", block, change.slot,
                               shape_.pools[0].num_blocks - 1);
      }
      slot.blocks.push_back(block);
    }
  }
  return absl::OkStatus();
}

void ModelRunner::Truncate(int position, Slot& slot) {
  const size_t blocks = static_cast<size_t>((position + kBlockTokens - 1) / kBlockTokens);
  if (slot.blocks.size() > blocks) slot.blocks.resize(blocks);
  while (slot.penalised && static_cast<int>(slot.history.size()) > position) {
    const TokenId id = slot.history.back();
    slot.history.pop_back();
    if (--slot.seen[id] == 0) slot.seen.erase(id);
    if (auto it = slot.produced.find(id); it != slot.produced.end() && --it->second == 0)
      slot.produced.erase(it);
  }
}

absl::Status ModelRunner::Change(const SlotChange& change) {
  if (change.slot < 0 || change.slot >= options_.max_slots) {
    return InvalidArgument("slot {} is not in 0..{}", change.slot, options_.max_slots - 1);
  }
  Slot& slot = slots_[change.slot];
  if (change.kind == SlotChange::Kind::kOpen) return OpenSlot(change, slot);
  if (!slot.open) return InvalidArgument("slot {} is not open", change.slot);
  switch (change.kind) {
    case SlotChange::Kind::kAppend:
      return Append(change, slot);
    case SlotChange::Kind::kTruncate:
      if (change.position < 0)
        return InvalidArgument("slot {} is cut at {}", change.slot, change.position);
      Truncate(change.position, slot);
      return absl::OkStatus();
    default:
      slot = Slot{};
      return absl::OkStatus();
  }
}

absl::Status ModelRunner::CheckPlan(const StepPlan& plan) const {
  if (plan.number != last_number_ + 1) {
    return InvalidArgument("step {} came after step {}", plan.number, last_number_);
  }
  if (static_cast<int>(plan.rows.size()) > options_.max_rows ||
      static_cast<int>(plan.samples.size()) > shape_.max_samples) {
    return InvalidArgument("step {} has {} rows and {} samples; the limits are {} and {}",
                           plan.number, plan.rows.size(), plan.samples.size(), options_.max_rows,
                           shape_.max_samples);
  }
  for (const BlockCopy& copy : plan.copies) {
    const int blocks = shape_.pools[0].num_blocks;
    if (copy.pool != 0 || copy.from < 0 || copy.from >= blocks || copy.to < 0 ||
        copy.to >= blocks || copy.tokens < 0 || copy.tokens > kBlockTokens) {
      return InvalidArgument("step {} copies {} tokens of block {} to {}", plan.number, copy.tokens,
                             copy.from, copy.to);
    }
  }
  for (const SampleRequest& sample : plan.samples) {
    if (sample.row < 0 || sample.row >= static_cast<int>(plan.rows.size()) || sample.slot < 0 ||
        sample.slot >= options_.max_slots) {
      return InvalidArgument("step {} samples row {} for slot {}", plan.number, sample.row,
                             sample.slot);
    }
  }
  return absl::OkStatus();
}

// The row's token, or the draw that it is; the slot's history learns it.
absl::StatusOr<TokenId> ModelRunner::Take(const StepPlan& plan, const Row& row) {
  if (row.slot < 0 || row.slot >= options_.max_slots || !slots_[row.slot].open) {
    return InvalidArgument("step {} has a row of slot {}, which is not open", plan.number,
                           row.slot);
  }
  Slot& slot = slots_[row.slot];
  const bool previous = row.token == kPreviousSample, ahead = previous && IsAhead(slot);
  const TokenId token = ahead ? -1 - slot.draw : previous ? slot.last_sample : row.token;
  if (!ahead && (token < 0 || token >= shape_.vocab_size)) {
    return InvalidArgument("step {} has the token {} of {}", plan.number, token, shape_.vocab_size);
  }
  if (row.position < 0 || row.position >= shape_.max_positions ||
      row.position / kBlockTokens >= static_cast<int>(slot.blocks.size())) {
    return InvalidArgument("step {} has slot {} at position {} with {} blocks", plan.number,
                           row.slot, row.position, slot.blocks.size());
  }
  if (slot.penalised && row.position >= static_cast<int>(slot.history.size())) {
    slot.history.push_back(token);
    ++slot.seen[token];
    if (row.position >= slot.prompt_tokens) ++slot.produced[token];
  }
  return token;
}

// The plan's rows, in its order; where kinds differ, prompt rows before the others.
absl::Status ModelRunner::MakeBatch(const StepPlan& plan) {
  batch_.tokens.clear(), batch_.runs.clear(), batch_.logits_rows.clear();
  batch_.prompt_rows = 0;
  places_.assign(plan.rows.size(), 0);
  std::vector<TokenId> tokens;
  for (const Row& row : plan.rows) {
    ASSIGN_OR_RETURN(tokens.emplace_back(), Take(plan, row));
  }
  const auto add = [&](size_t i) {
    const Row& row = plan.rows[i];
    const Slot& slot = slots_[row.slot];
    const int32_t at = places_[i] = static_cast<int32_t>(batch_.tokens.size());
    batch_.tokens.push_back(tokens[i]);
    const bool goes_on = !batch_.runs.empty() && batch_.prompt_rows != at &&
                         batch_.runs.back().blocks == slot.blocks.data() &&
                         batch_.runs.back().position + batch_.runs.back().rows == row.position;
    if (goes_on) {
      ++batch_.runs.back().rows;
    } else {
      batch_.runs.push_back(
          {at, 1, row.position, slot.blocks.data(), static_cast<int32_t>(slot.blocks.size())});
    }
  };
  const auto in_prompt = [&](const Row& row) {
    return shape_.kinds_differ && row.position < slots_[row.slot].prompt_tokens;
  };
  for (size_t i = 0; i < plan.rows.size(); ++i) {
    if (in_prompt(plan.rows[i])) add(i);
  }
  batch_.prompt_rows = static_cast<int>(batch_.tokens.size());
  for (size_t i = 0; i < plan.rows.size(); ++i) {
    if (!in_prompt(plan.rows[i])) add(i);
  }
  sampled_rows_.clear();
  for (const SampleRequest& sample : plan.samples) {
    if (!slots_[sample.slot].open) {
      return InvalidArgument("step {} samples for slot {}, which is not open", plan.number,
                             sample.slot);
    }
    sampled_rows_.push_back(sample.row);
  }
  std::sort(sampled_rows_.begin(), sampled_rows_.end());
  sampled_rows_.erase(std::unique(sampled_rows_.begin(), sampled_rows_.end()), sampled_rows_.end());
  for (const int32_t row : sampled_rows_) batch_.logits_rows.push_back(places_[row]);
  std::sort(batch_.logits_rows.begin(), batch_.logits_rows.end());
  return absl::OkStatus();
}

absl::Status ModelRunner::BeginSamples(const StepPlan& plan, Begun& begun) {
  begun.draws.reserve(plan.samples.size());
  for (const SampleRequest& sample : plan.samples) {
    Slot& slot = slots_[sample.slot];
    const auto row =
        std::lower_bound(batch_.logits_rows.begin(), batch_.logits_rows.end(), places_[sample.row]);
    slot.sampled_in = plan.number;
    slot.draw = static_cast<int32_t>(begun.draws.size());
    DrawRequest& request = begun.draws.emplace_back();
    request.logits = last_logits_.row(row - batch_.logits_rows.begin());
    request.sampling = &slot.drawing->sampling, request.rules = &slot.drawing->rules;
    request.seed = slot.seed, request.agent = slot.agent, request.index = sample.index;
    request.produced = &slot.produced, request.seen = &slot.seen;
    begun.drawings.push_back(slot.drawing);
    begun.slots.push_back(sample.slot);
  }
  const Shard& shard = model_->shard();
  return BeginTokens(begun.draws, shard.vocab.begin, shard.vocab.size(), device_);
}

absl::StatusOr<std::vector<std::vector<float>>> ModelRunner::LastLogits() {
  std::vector<std::vector<float>> logits;
  for (const int32_t row : sampled_rows_) {
    const auto at =
        std::lower_bound(batch_.logits_rows.begin(), batch_.logits_rows.end(), places_[row]);
    logits.emplace_back(static_cast<size_t>(last_logits_.cols));
    RETURN_IF_ERROR(device_.Download(last_logits_.Rows(at - batch_.logits_rows.begin(), 1),
                                     logits.back().data()));
  }
  return logits;
}

int ModelRunner::MostPositions() const {
  return static_cast<int>(
      std::min<int64_t>(shape_.max_positions, int64_t{shape_.pools[0].num_blocks} * kBlockTokens));
}

StepPlan ModelRunner::FirstTokens(int rows) const {
  rows = std::min({rows, options_.max_rows, MostPositions()});
  StepPlan plan;
  SlotChange open;
  open.position = rows > 1 ? rows : 0;  // Many rows are mostly a prompt's, one is a produced one.
  open.blocks.emplace_back();
  for (int i = 0; i * kBlockTokens < rows; ++i) open.blocks[0].push_back(i);
  plan.slots = {open};
  for (int i = 0; i < rows; ++i) plan.rows.push_back({0, i, 0});
  plan.samples = {{rows - 1, 0, 0}};
  return plan;
}

absl::Status ModelRunner::Try(StepPlan plan) {
  plan.number = 1;
  RETURN_IF_ERROR(Run(plan).status());
  slots_.assign(slots_.size(), Slot{});
  last_number_ = finished_ = 0;
  return absl::OkStatus();
}

absl::Status ModelRunner::Rehearse() {
  if (!device_.feeds_draws()) return absl::OkStatus();
  // Every slot at its last position, in blocks in another order (so that no two share a piece), and
  // drawn with most candidates.
  StepPlan produced;
  const int position = MostPositions() - 1, blocks = shape_.pools[0].num_blocks;
  for (SlotId slot = 0; slot < options_.max_slots; ++slot) {
    SlotChange& open = produced.slots.emplace_back();
    open.slot = slot;
    open.sampling.temperature = 1;
    open.sampling.top_k = kMostCandidates;
    open.blocks.emplace_back();
    for (int i = 0; i <= position / kBlockTokens; ++i) {
      open.blocks[0].push_back((i + slot) % blocks);
    }
    produced.rows.push_back({slot, position, 0});
    produced.samples.push_back({slot, slot, 0});
  }
  absl::Status status = Try(FirstTokens(options_.max_rows));
  if (status.ok()) status = Try(std::move(produced));
  if (!absl::IsResourceExhausted(status)) return status;
  return Annotate(status,
                  fmt::format("for steps of {} rows, or of {} agents with {} tokens each: lower "
                              "group.kv_tokens, group.max_agents or group.max_batched_tokens",
                              options_.max_rows, options_.max_slots, position + 1));
}

absl::StatusOr<absl::Duration> ModelRunner::MeasureStep(int rows) {
  const StepPlan plan = FirstTokens(rows);
  RETURN_IF_ERROR(Try(plan));  // It touches memory for the first time.
  const absl::Time begin = absl::Now();
  RETURN_IF_ERROR(Try(plan));
  return absl::Now() - begin;
}

bool ModelRunner::MayBegin(const StepPlan& plan) const {
  if (begun_.empty()) return true;
  if (begun_.size() > 1 || !device_.feeds_draws() || shape_.tp > 1) return false;
  // The history of penalties is the host's.
  return std::all_of(plan.rows.begin(), plan.rows.end(), [this](const Row& row) {
    if (row.token != kPreviousSample || row.slot < 0 || row.slot >= options_.max_slots) return true;
    const Slot& slot = slots_[row.slot];
    return !IsAhead(slot) || (!slot.penalised && DecidedByDevice(slot.drawing->sampling));
  });
}

absl::Status ModelRunner::Begin(const StepPlan& plan) {
  CHECK(MayBegin(plan));
  RETURN_IF_ERROR(CheckPlan(plan));
  last_number_ = plan.number;
  for (const SlotChange& change : plan.slots) RETURN_IF_ERROR(Change(change));
  for (const BlockCopy& copy : plan.copies)
    device_.CopyBlock(pool_, copy.from, copy.to, copy.tokens);
  RETURN_IF_ERROR(MakeBatch(plan));
  Begun begun;
  begun.number = plan.number;
  begun.computes = !batch_.tokens.empty();
  if (begun.computes) {
    const int width = model_->shard().vocab.size();
    last_logits_ = Tensor::Dense(logits_->floats(), device_.Padded(options_.max_slots), width);
    RETURN_IF_ERROR(model_->Forward(batch_, pool_, last_logits_));
    RETURN_IF_ERROR(BeginSamples(plan, begun));
  }
  begun_.push_back(std::move(begun));
  return absl::OkStatus();
}

bool ModelRunner::IsReady() {
  CHECK(!begun_.empty());
  return !begun_.front().computes || device_.DrawIsDone();
}

absl::StatusOr<StepResult> ModelRunner::Finish() {
  CHECK(!begun_.empty());
  const Begun begun = std::move(begun_.front());
  begun_.pop_front();
  StepResult result;
  result.number = finished_ = begun.number;
  if (!begun.computes) return result;
  ASSIGN_OR_RETURN(result.tokens, TakeTokens(begun.draws, device_, collective_));
  for (size_t i = 0; i < begun.slots.size(); ++i) {
    Slot& slot = slots_[begun.slots[i]];
    // Not a slot that the next plan has closed. One that it samples for has a later token to come.
    if (slot.sampled_in >= begun.number) slot.last_sample = result.tokens[i].id;
  }
  return result;
}

absl::StatusOr<StepResult> ModelRunner::Run(const StepPlan& plan) {
  RETURN_IF_ERROR(Begin(plan));
  return Finish();
}

}  // namespace conclave::worker
