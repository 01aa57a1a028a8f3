#include "common/wire/message_wire.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "common/check.h"
#include "common/status.h"
#include "common/status_details.h"

namespace conclave {
namespace {

constexpr int kMostBiases = 1024;
constexpr int kMostTopK = 1024;
constexpr size_t kMostArgumentBytes = 1024;

absl::StatusOr<Role> FromWire(v1::Role role, std::string_view path) {
  switch (role) {
    case v1::ROLE_SYSTEM:
      return Role::kSystem;
    case v1::ROLE_USER:
      return Role::kUser;
    case v1::ROLE_ASSISTANT:
      return Role::kAssistant;
    default:
      return BadField(path, fmt::format("{} is not a role; SYSTEM, USER and ASSISTANT are",
                                        static_cast<int>(role)));
  }
}

v1::Role ToWire(Role role) {
  switch (role) {
    case Role::kSystem:
      return v1::ROLE_SYSTEM;
    case Role::kUser:
      return v1::ROLE_USER;
    case Role::kAssistant:
      return v1::ROLE_ASSISTANT;
  }
  CHECK(false);
}

// Text is UTF-8 already: the protobuf parser refuses anything else in a string field.
absl::StatusOr<Part> FromWire(const v1::Part& part, const std::string& path) {
  switch (part.kind_case()) {
    case v1::Part::kText:
      return Part{part.text()};
    case v1::Part::kImage:
      return BadField(path + ".image", "no served model takes images",
                      absl::StatusCode::kUnimplemented);
    case v1::Part::kAudio:
      return BadField(path + ".audio", "no served model takes audio",
                      absl::StatusCode::kUnimplemented);
    case v1::Part::KIND_NOT_SET:
      break;
  }
  return BadField(path, "is empty; it needs a text");
}

absl::StatusOr<Message> FromWire(const v1::Message& message, const std::string& path) {
  Message result;
  ASSIGN_OR_RETURN(result.role, FromWire(message.role(), path + ".role"));
  if (message.parts_size() < 1 || message.parts_size() > kMostParts) {
    return BadField(path + ".parts", fmt::format("has {} parts; 1 to {} are allowed",
                                                 message.parts_size(), kMostParts));
  }
  result.parts.reserve(static_cast<size_t>(message.parts_size()));
  for (int i = 0; i < message.parts_size(); ++i) {
    ASSIGN_OR_RETURN(Part part, FromWire(message.parts(i), fmt::format("{}.parts[{}]", path, i)));
    result.parts.push_back(std::move(part));
  }
  return result;
}

// One number of Sampling: its bounds, and whether they are allowed themselves.
struct Bounds {
  float least, most;
  bool least_open = false, most_open = false;
};

absl::Status CheckNumber(std::string_view path, const char* name, float value,
                         const Bounds& bounds) {
  const bool low = bounds.least_open ? value > bounds.least : value >= bounds.least;
  const bool high = bounds.most_open ? value < bounds.most : value <= bounds.most;
  if (std::isfinite(value) && low && high) return absl::OkStatus();
  return BadField(
      fmt::format("{}.{}", path, name),
      fmt::format("is {}; {} {} to {} {} is allowed", value, bounds.least_open ? "above" : "from",
                  bounds.least, bounds.most_open ? "below" : "at most", bounds.most));
}

absl::Status CheckSampling(const Sampling& sampling, std::string_view path) {
  RETURN_IF_ERROR(CheckNumber(path, "temperature", sampling.temperature, {0, 100}));
  RETURN_IF_ERROR(CheckNumber(path, "top_p", sampling.top_p, {0, 1, true, false}));
  RETURN_IF_ERROR(CheckNumber(path, "min_p", sampling.min_p, {0, 1, false, true}));
  RETURN_IF_ERROR(
      CheckNumber(path, "repetition_penalty", sampling.repetition_penalty, {0, 10, true, false}));
  RETURN_IF_ERROR(CheckNumber(path, "presence_penalty", sampling.presence_penalty, {-2, 2}));
  RETURN_IF_ERROR(CheckNumber(path, "frequency_penalty", sampling.frequency_penalty, {-2, 2}));
  if (sampling.top_k < 0 || sampling.top_k > kMostTopK) {
    return BadField(fmt::format("{}.top_k", path),
                    fmt::format("is {}; 0 to {} is allowed", sampling.top_k, kMostTopK));
  }
  return absl::OkStatus();
}

absl::Status ReadBiases(const v1::Sampling& wire, std::string_view path, Sampling& sampling) {
  if (wire.logit_bias().empty()) return absl::OkStatus();
  if (wire.logit_bias_size() > kMostBiases) {
    return BadField(
        fmt::format("{}.logit_bias", path),
        fmt::format("has {} entries; the limit is {}", wire.logit_bias_size(), kMostBiases));
  }
  sampling.logit_bias.clear();
  for (const auto& [token, bias] : wire.logit_bias()) {
    const std::string name = fmt::format("logit_bias[{}]", token);
    if (token < 0) return BadField(fmt::format("{}.{}", path, name), "is no token id");
    RETURN_IF_ERROR(CheckNumber(path, name.c_str(), bias, {-100, 100}));
    sampling.logit_bias.emplace_back(token, bias);
  }
  // A map has no order of its own; the arithmetic downstream must.
  std::sort(sampling.logit_bias.begin(), sampling.logit_bias.end());
  return absl::OkStatus();
}

}  // namespace

absl::Status BadField(std::string_view path, std::string_view what, absl::StatusCode code) {
  StatusDetails details;
  details.fields.emplace_back(path, what);
  return WithDetails(MakeStatus(code, fmt::format("{} {}", path, what)), details);
}

void ToWire(const std::vector<Message>& messages, WireMessages* out) {
  out->Clear();
  for (const Message& message : messages) {
    v1::Message* wire = out->Add();
    wire->set_role(ToWire(message.role));
    for (const Part& part : message.parts) wire->add_parts()->set_text(part.text);
  }
}

absl::StatusOr<std::vector<Message>> FromWire(const WireMessages& messages, std::string_view path,
                                              int least) {
  if (messages.size() < least || messages.size() > kMostMessages) {
    return BadField(path, fmt::format("has {} entries; {} to {} are allowed", messages.size(),
                                      least, kMostMessages));
  }
  std::vector<Message> result;
  result.reserve(static_cast<size_t>(messages.size()));
  for (int i = 0; i < messages.size(); ++i) {
    ASSIGN_OR_RETURN(Message message, FromWire(messages[i], fmt::format("{}[{}]", path, i)));
    result.push_back(std::move(message));
  }
  return result;
}

v1::Sampling ToWire(const Sampling& sampling) {
  v1::Sampling wire;
  wire.set_temperature(sampling.temperature);
  wire.set_top_k(sampling.top_k);
  wire.set_top_p(sampling.top_p);
  wire.set_min_p(sampling.min_p);
  wire.set_repetition_penalty(sampling.repetition_penalty);
  wire.set_presence_penalty(sampling.presence_penalty);
  wire.set_frequency_penalty(sampling.frequency_penalty);
  for (const auto& [token, bias] : sampling.logit_bias) (*wire.mutable_logit_bias())[token] = bias;
  return wire;
}

absl::StatusOr<Sampling> FromWire(const v1::Sampling& wire, const Sampling& defaults,
                                  std::string_view path) {
  Sampling sampling = defaults;
  if (wire.has_temperature()) sampling.temperature = wire.temperature();
  if (wire.has_top_k()) sampling.top_k = wire.top_k();
  if (wire.has_top_p()) sampling.top_p = wire.top_p();
  if (wire.has_min_p()) sampling.min_p = wire.min_p();
  if (wire.has_repetition_penalty()) sampling.repetition_penalty = wire.repetition_penalty();
  if (wire.has_presence_penalty()) sampling.presence_penalty = wire.presence_penalty();
  if (wire.has_frequency_penalty()) sampling.frequency_penalty = wire.frequency_penalty();
  RETURN_IF_ERROR(CheckSampling(sampling, path));
  RETURN_IF_ERROR(ReadBiases(wire, path, sampling));
  return sampling;
}

v1::AnswerKey ToWire(const AnswerKeySpec& spec) {
  v1::AnswerKey wire;
  // The enums stand in the same order; the wire's has UNSPECIFIED before them.
  wire.set_kind(static_cast<v1::AnswerKey::Kind>(static_cast<int>(spec.kind) + 1));
  wire.set_argument(spec.argument);
  return wire;
}

absl::StatusOr<AnswerKeySpec> FromWire(const v1::AnswerKey& key, const AnswerKeySpec& defaults,
                                       std::string_view path) {
  static_assert(static_cast<int>(AnswerKeySpec::Kind::kBoxed) + 1 == v1::AnswerKey::KIND_BOXED);
  static_assert(static_cast<int>(AnswerKeySpec::Kind::kWholeText) + 1 ==
                v1::AnswerKey::KIND_WHOLE_TEXT);
  if (key.argument().size() > kMostArgumentBytes) {
    return BadField(
        fmt::format("{}.argument", path),
        fmt::format("has {} bytes; the limit is {}", key.argument().size(), kMostArgumentBytes));
  }
  if (key.kind() == v1::AnswerKey::KIND_UNSPECIFIED) {
    if (key.argument().empty()) return defaults;
    return BadField(fmt::format("{}.argument", path), "needs a kind beside it");
  }
  if (!v1::AnswerKey::Kind_IsValid(key.kind())) {
    return BadField(fmt::format("{}.kind", path),
                    fmt::format("{} is not a kind", static_cast<int>(key.kind())));
  }
  return AnswerKeySpec{static_cast<AnswerKeySpec::Kind>(static_cast<int>(key.kind()) - 1),
                       key.argument()};
}

v1::Checker ToWire(const CheckerSpec& spec) {
  v1::Checker wire;
  switch (spec.kind) {
    case CheckerSpec::Kind::kArithmetic:
      wire.mutable_arithmetic()->set_value(spec.argument);
      wire.mutable_arithmetic()->mutable_numbers()->Add(spec.numbers.begin(), spec.numbers.end());
      break;
    case CheckerSpec::Kind::kRegex:
      wire.set_regex(spec.argument);
      break;
    case CheckerSpec::Kind::kJsonSchema:
      wire.set_json_schema(spec.argument);
      break;
  }
  return wire;
}

absl::StatusOr<CheckerSpec> FromWire(const v1::Checker& checker, std::string_view path) {
  switch (checker.rule_case()) {
    case v1::Checker::kRegex:
      return CheckerSpec{CheckerSpec::Kind::kRegex, checker.regex(), {}};
    case v1::Checker::kJsonSchema:
      return CheckerSpec{CheckerSpec::Kind::kJsonSchema, checker.json_schema(), {}};
    case v1::Checker::kArithmetic:
      break;
    default:
      return BadField(path, "has no rule: arithmetic, regex or json_schema");
  }
  const auto& numbers = checker.arithmetic().numbers();
  const std::string field = fmt::format("{}.arithmetic.numbers", path);
  if (numbers.size() > kMostCheckedNumbers) {
    return BadField(
        field, fmt::format("has {} entries; the limit is {}", numbers.size(), kMostCheckedNumbers));
  }
  for (int i = 0; i < numbers.size(); ++i) {
    if (numbers[i] >= 0) continue;
    return BadField(fmt::format("{}[{}]", field, i),
                    fmt::format("is {}; 0 or more is allowed", numbers[i]));
  }
  return CheckerSpec{CheckerSpec::Kind::kArithmetic,
                     checker.arithmetic().value(),
                     {numbers.begin(), numbers.end()}};
}

}  // namespace conclave
