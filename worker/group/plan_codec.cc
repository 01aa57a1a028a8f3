#include "worker/group/plan_codec.h"

#include <cstdint>
#include <utility>

#include "worker/group/bytes.h"

namespace conclave::worker {
namespace {

constexpr uint8_t kPlanKind = 'P', kResultKind = 'R';
constexpr uint8_t kVersion = 2;
constexpr uint64_t kMaxPatienceNs = uint64_t{24} * 3600 * 1'000'000'000;

// The fewest bytes that an element takes: a bound for its count.
constexpr size_t kMinChange = 2, kMinCopy = 4, kMinRow = 3, kMinSample = 3, kMinBias = 5;
constexpr size_t kMinToken = 11, kMinRated = 6;

void PutSampling(ByteWriter& out, const Sampling& sampling) {
  out.Float(sampling.repetition_penalty);
  out.Float(sampling.presence_penalty);
  out.Float(sampling.frequency_penalty);
  out.Float(sampling.temperature);
  out.Float(sampling.top_p);
  out.Float(sampling.min_p);
  out.Signed(sampling.top_k);
  out.Unsigned(sampling.logit_bias.size());
  for (const auto& [token, bias] : sampling.logit_bias) {
    out.Signed(token);
    out.Float(bias);
  }
}

Sampling TakeSampling(ByteReader& in) {
  Sampling sampling;
  sampling.repetition_penalty = in.Float();
  sampling.presence_penalty = in.Float();
  sampling.frequency_penalty = in.Float();
  sampling.temperature = in.Float();
  sampling.top_p = in.Float();
  sampling.min_p = in.Float();
  sampling.top_k = in.Signed();
  sampling.logit_bias.resize(in.Count(kMinBias));
  for (auto& [token, bias] : sampling.logit_bias) {
    token = in.Signed();
    bias = in.Float();
  }
  return sampling;
}

void PutNumbers(ByteWriter& out, const std::vector<int32_t>& numbers) {
  out.Unsigned(numbers.size());
  for (int32_t number : numbers) out.Signed(number);
}

std::vector<int32_t> TakeNumbers(ByteReader& in) {
  std::vector<int32_t> numbers(in.Count(1));
  for (int32_t& number : numbers) number = in.Signed();
  return numbers;
}

void PutBlocks(ByteWriter& out, const std::vector<std::vector<BlockId>>& blocks) {
  out.Unsigned(blocks.size());
  for (const std::vector<BlockId>& pool : blocks) PutNumbers(out, pool);
}

std::vector<std::vector<BlockId>> TakeBlocks(ByteReader& in) {
  std::vector<std::vector<BlockId>> blocks(in.Count(1));
  for (std::vector<BlockId>& pool : blocks) pool = TakeNumbers(in);
  return blocks;
}

void PutRules(ByteWriter& out, const DrawRules& rules) {
  PutNumbers(out, rules.barred);
  out.Signed(rules.barred_until);
  out.Signed(rules.top_logprobs);
}

DrawRules TakeRules(ByteReader& in) {
  DrawRules rules;
  rules.barred = TakeNumbers(in);
  rules.barred_until = in.Signed();
  rules.top_logprobs = in.Signed();
  return rules;
}

void PutChange(ByteWriter& out, const SlotChange& change) {
  out.Byte(static_cast<uint8_t>(change.kind));
  out.Signed(change.slot);
  switch (change.kind) {
    case SlotChange::Kind::kOpen:
      out.Fixed(change.seed, 8);
      out.Unsigned(static_cast<uint32_t>(change.agent));
      PutSampling(out, change.sampling);
      PutRules(out, change.rules);
      out.Signed(change.position);
      PutNumbers(out, change.history);
      PutBlocks(out, change.blocks);
      break;
    case SlotChange::Kind::kAppend:
      PutBlocks(out, change.blocks);
      break;
    case SlotChange::Kind::kTruncate:
      out.Signed(change.position);
      break;
    case SlotChange::Kind::kClose:
      break;
  }
}

SlotChange TakeChange(ByteReader& in) {
  SlotChange change;
  const uint8_t kind = in.Byte();
  if (kind > static_cast<uint8_t>(SlotChange::Kind::kClose)) {
    in.Fail("holds an unknown slot change");
    return change;
  }
  change.kind = static_cast<SlotChange::Kind>(kind);
  change.slot = in.Signed();
  switch (change.kind) {
    case SlotChange::Kind::kOpen:
      change.seed = in.Fixed(8);
      change.agent = static_cast<AgentId>(in.Unsigned(UINT32_MAX));
      change.sampling = TakeSampling(in);
      change.rules = TakeRules(in);
      change.position = in.Signed();
      change.history = TakeNumbers(in);
      change.blocks = TakeBlocks(in);
      break;
    case SlotChange::Kind::kAppend:
      change.blocks = TakeBlocks(in);
      break;
    case SlotChange::Kind::kTruncate:
      change.position = in.Signed();
      break;
    case SlotChange::Kind::kClose:
      break;
  }
  return change;
}

void TakeHead(ByteReader& in, uint8_t kind) {
  if (in.Byte() != kind) in.Fail("is of another kind");
  if (in.Byte() != kVersion) in.Fail("has another version");
}

// A vector whose elements `take` reads one after the other; it grows as they are found to be there.
template <typename T, typename Take>
void TakeAll(ByteReader& in, size_t min_bytes, std::vector<T>& into, Take take) {
  const size_t count = in.Count(min_bytes);
  for (size_t i = 0; i < count && in.status().ok(); ++i) into.push_back(take());
}

}  // namespace

std::string EncodePlan(const TimedPlan& timed) {
  const StepPlan& plan = timed.plan;
  ByteWriter out;
  out.Byte(kPlanKind);
  out.Byte(kVersion);
  out.Unsigned(plan.number);
  out.Unsigned(static_cast<uint64_t>(absl::ToInt64Nanoseconds(timed.patience)));
  out.Unsigned(plan.slots.size());
  for (const SlotChange& change : plan.slots) PutChange(out, change);
  out.Unsigned(plan.copies.size());
  for (const BlockCopy& copy : plan.copies) {
    out.Signed(copy.pool);
    out.Signed(copy.from);
    out.Signed(copy.to);
    out.Signed(copy.tokens);
  }
  out.Unsigned(plan.rows.size());
  for (const Row& row : plan.rows) {
    out.Signed(row.slot);
    out.Signed(row.position);
    out.Signed(row.token);
  }
  out.Unsigned(plan.samples.size());
  for (const SampleRequest& sample : plan.samples) {
    out.Signed(sample.row);
    out.Signed(sample.slot);
    out.Signed(sample.index);
  }
  return out.Take();
}

absl::StatusOr<TimedPlan> DecodePlan(std::string_view bytes) {
  ByteReader in(bytes);
  TimedPlan timed;
  StepPlan& plan = timed.plan;
  TakeHead(in, kPlanKind);
  plan.number = in.Unsigned();
  timed.patience = absl::Nanoseconds(static_cast<int64_t>(in.Unsigned(kMaxPatienceNs)));
  TakeAll(in, kMinChange, plan.slots, [&] { return TakeChange(in); });
  TakeAll(in, kMinCopy, plan.copies, [&] {
    BlockCopy copy;
    copy.pool = in.Signed();
    copy.from = in.Signed();
    copy.to = in.Signed();
    copy.tokens = in.Signed();
    return copy;
  });
  TakeAll(in, kMinRow, plan.rows, [&] {
    Row row;
    row.slot = in.Signed();
    row.position = in.Signed();
    row.token = in.Signed();
    return row;
  });
  TakeAll(in, kMinSample, plan.samples, [&] {
    SampleRequest sample;
    sample.row = in.Signed();
    sample.slot = in.Signed();
    sample.index = in.Signed();
    return sample;
  });
  in.End();
  RETURN_IF_ERROR(in.status());
  return timed;
}

std::string EncodeResult(const StepResult& result) {
  ByteWriter out;
  out.Byte(kResultKind);
  out.Byte(kVersion);
  out.Unsigned(result.number);
  out.Unsigned(result.tokens.size());
  for (const TokenEvent& token : result.tokens) {
    out.Signed(token.id);
    out.Float(token.logprob);
    out.Float(token.top_logprob_mean);
    out.Byte(static_cast<uint8_t>(token.kind));
    out.Unsigned(token.told.size());
    for (const RatedToken& each : token.told) {
      out.Signed(each.id);
      out.Float(each.logprob);
      out.Text(each.text);
    }
  }
  return out.Take();
}

absl::StatusOr<StepResult> DecodeResult(std::string_view bytes) {
  ByteReader in(bytes);
  StepResult result;
  TakeHead(in, kResultKind);
  result.number = in.Unsigned();
  TakeAll(in, kMinToken, result.tokens, [&] {
    TokenEvent token;
    token.id = in.Signed();
    token.logprob = in.Float();
    token.top_logprob_mean = in.Float();
    const uint8_t kind = in.Byte();
    if (kind > static_cast<uint8_t>(TokenKind::kForced)) in.Fail("holds an unknown kind of token");
    token.kind = static_cast<TokenKind>(kind);
    TakeAll(in, kMinRated, token.told, [&] {
      RatedToken each;
      each.id = in.Signed();
      each.logprob = in.Float();
      each.text = in.Text();
      return each;
    });
    return token;
  });
  in.End();
  RETURN_IF_ERROR(in.status());
  return result;
}

}  // namespace conclave::worker
