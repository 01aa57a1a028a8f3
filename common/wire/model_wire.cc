#include "common/wire/model_wire.h"

#include <limits>
#include <string_view>

#include "common/status.h"
#include "common/wire/message_wire.h"

namespace conclave {
namespace {

constexpr size_t kMostNameBytes = 256;
constexpr size_t kMostTextBytes = 64 * 1024;
constexpr int kMostEndTokens = 1024;

absl::Status CheckText(std::string_view path, const std::string& text, size_t most) {
  if (text.size() <= most) return absl::OkStatus();
  return BadField(path, fmt::format("has {} bytes; the limit is {}", text.size(), most));
}

absl::Status CheckNumber(std::string_view path, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return BadField(path, fmt::format("is {}; {} to {} is allowed", value, least, most));
}

v1::Profile ToWire(const PromptProfile& profile) {
  v1::Profile wire;
  *wire.mutable_answer_key() = conclave::ToWire(profile.answer_key);
  wire.set_aggregate_text(profile.aggregate_text);
  wire.set_candidate_line(profile.candidate_line);
  wire.set_max_candidates(profile.max_candidates);
  wire.set_split_text(profile.split_text);
  wire.set_join_text(profile.join_text);
  wire.set_join_line(profile.join_line);
  wire.set_refine_text(profile.refine_text);
  wire.set_select_text(profile.select_text);
  wire.set_end_thinking_tokens(profile.end_thinking_tokens);
  wire.set_thinks(profile.thinks);
  wire.set_thinking_tokens(profile.thinking_tokens);
  wire.set_answer_tokens(profile.answer_tokens);
  *wire.mutable_sampling() = conclave::ToWire(profile.sampling);
  wire.mutable_end_tokens()->Add(profile.end_tokens.begin(), profile.end_tokens.end());
  return wire;
}

absl::StatusOr<PromptProfile> FromWire(const v1::Profile& wire) {
  constexpr int kMostTokens = 1 << 30;
  RETURN_IF_ERROR(CheckText("profile.aggregate_text", wire.aggregate_text(), kMostTextBytes));
  RETURN_IF_ERROR(CheckText("profile.candidate_line", wire.candidate_line(), kMostTextBytes));
  RETURN_IF_ERROR(CheckText("profile.split_text", wire.split_text(), kMostTextBytes));
  RETURN_IF_ERROR(CheckText("profile.join_text", wire.join_text(), kMostTextBytes));
  RETURN_IF_ERROR(CheckText("profile.join_line", wire.join_line(), kMostTextBytes));
  RETURN_IF_ERROR(CheckText("profile.refine_text", wire.refine_text(), kMostTextBytes));
  RETURN_IF_ERROR(CheckText("profile.select_text", wire.select_text(), kMostTextBytes));
  RETURN_IF_ERROR(CheckNumber("profile.max_candidates", wire.max_candidates(), 2, 1024));
  RETURN_IF_ERROR(
      CheckNumber("profile.end_thinking_tokens", wire.end_thinking_tokens(), 0, kMostTokens));
  RETURN_IF_ERROR(CheckNumber("profile.thinking_tokens", wire.thinking_tokens(), 0, kMostTokens));
  RETURN_IF_ERROR(CheckNumber("profile.answer_tokens", wire.answer_tokens(), 0, kMostTokens));
  RETURN_IF_ERROR(CheckNumber("profile.end_tokens", wire.end_tokens_size(), 0, kMostEndTokens));
  for (const int32_t token : wire.end_tokens()) {
    RETURN_IF_ERROR(CheckNumber("profile.end_tokens", token, 0, INT32_MAX));
  }
  PromptProfile profile;
  profile.end_tokens.assign(wire.end_tokens().begin(), wire.end_tokens().end());
  ASSIGN_OR_RETURN(profile.answer_key,
                   conclave::FromWire(wire.answer_key(), AnswerKeySpec{}, "profile.answer_key"));
  ASSIGN_OR_RETURN(profile.sampling,
                   conclave::FromWire(wire.sampling(), Sampling{}, "profile.sampling"));
  profile.aggregate_text = wire.aggregate_text();
  profile.candidate_line = wire.candidate_line();
  profile.max_candidates = wire.max_candidates();
  profile.split_text = wire.split_text();
  profile.join_text = wire.join_text();
  profile.join_line = wire.join_line();
  profile.refine_text = wire.refine_text();
  profile.select_text = wire.select_text();
  profile.end_thinking_tokens = wire.end_thinking_tokens();
  profile.thinks = wire.thinks();
  profile.thinking_tokens = wire.thinking_tokens();
  profile.answer_tokens = wire.answer_tokens();
  return profile;
}

absl::Status CheckModel(const v1::ModelDescription& wire) {
  constexpr int kMostInt = std::numeric_limits<int>::max();
  constexpr int64_t kMostCount = std::numeric_limits<int64_t>::max();
  RETURN_IF_ERROR(CheckText("name", wire.name(), kMostNameBytes));
  RETURN_IF_ERROR(CheckText("fingerprint", wire.fingerprint(), kMostNameBytes));
  RETURN_IF_ERROR(CheckText("numerics", wire.numerics(), kMostNameBytes));
  if (wire.name().empty()) return BadField("name", "is empty");
  if (wire.fingerprint().empty()) return BadField("fingerprint", "is empty");
  RETURN_IF_ERROR(CheckNumber("tensor_parallel", wire.tensor_parallel(), 1, 64));
  RETURN_IF_ERROR(CheckNumber("max_positions", wire.max_positions(), 1, kMostInt));
  RETURN_IF_ERROR(CheckNumber("max_agents", wire.max_agents(), 1, kMostInt));
  RETURN_IF_ERROR(CheckText("family", wire.family(), kMostNameBytes));
  RETURN_IF_ERROR(CheckNumber("kv_tokens", wire.kv_tokens(), 1, kMostCount));
  RETURN_IF_ERROR(CheckNumber("vocabulary", wire.vocabulary(), 0, kMostInt));
  return CheckNumber("parameters", wire.parameters(), 0, kMostCount);
}

}  // namespace

v1::ModelDescription ToWire(const ModelDescription& model) {
  v1::ModelDescription wire;
  wire.set_name(model.name);
  wire.set_fingerprint(model.fingerprint);
  wire.set_numerics(model.numerics);
  wire.set_tensor_parallel(model.tensor_parallel);
  wire.set_max_positions(model.max_positions);
  wire.set_max_agents(model.max_agents);
  wire.set_kv_tokens(model.kv_tokens);
  wire.set_parameters(model.parameters);
  wire.set_decision_version(model.decision_version);
  wire.set_family(model.family);
  wire.set_vocabulary(model.vocabulary);
  *wire.mutable_profile() = ToWire(model.profile);
  return wire;
}

absl::StatusOr<ModelDescription> FromWire(const v1::ModelDescription& wire) {
  RETURN_IF_ERROR(CheckModel(wire));
  ModelDescription model;
  ASSIGN_OR_RETURN(model.profile, FromWire(wire.profile()));
  model.name = wire.name();
  model.fingerprint = wire.fingerprint();
  model.numerics = wire.numerics();
  model.tensor_parallel = wire.tensor_parallel();
  model.max_positions = wire.max_positions();
  model.max_agents = wire.max_agents();
  model.kv_tokens = wire.kv_tokens();
  model.parameters = wire.parameters();
  model.decision_version = wire.decision_version();
  model.family = wire.family();
  model.vocabulary = wire.vocabulary();
  return model;
}

}  // namespace conclave
