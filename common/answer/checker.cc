#include "common/answer/checker.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "common/answer/expression.h"
#include "common/answer/json_schema.h"
#include "common/answer/normalise.h"
#include "common/answer/pattern.h"
#include "common/check.h"
#include "common/plain_text.h"
#include "common/status.h"
#include "common/utf8.h"

namespace conclave {
namespace {

constexpr size_t kMostValueBytes = 64;
constexpr size_t kMostPatternBytes = 4096;
constexpr int kMostSteps = 8192;
constexpr size_t kMostReasonBytes = 256;

std::string TextOf(const std::vector<int64_t>& numbers) {
  return numbers.empty() ? "none" : fmt::format("{}", fmt::join(numbers, ", "));
}

absl::Status CheckBytes(const std::string& argument, size_t most) {
  if (argument.empty()) return InvalidArgument("is empty");
  if (argument.size() <= most) return absl::OkStatus();
  return InvalidArgument("has {} bytes; the limit is {}", argument.size(), most);
}

Verdict Rejected(std::string_view reason) {
  const std::string text = PlainText(reason);
  return {.accepted = false, .reason = std::string(FirstCharacters(text, kMostReasonBytes))};
}

}  // namespace

struct Checker::Rules {
  CheckerSpec spec;
  Fraction value;                      // kArithmetic.
  std::vector<int64_t> sorted;         // kArithmetic: its numbers.
  std::unique_ptr<const RE2> pattern;  // kRegex.
  std::optional<JsonSchema> schema;    // kJsonSchema.

  absl::Status ParseArithmetic() {
    RETURN_IF_ERROR(CheckBytes(spec.argument, kMostValueBytes));
    ASSIGN_OR_RETURN(value, ParseFraction(spec.argument));
    if (spec.numbers.size() > kMostCheckedNumbers) {
      return InvalidArgument("comes with {} numbers; the limit is {}", spec.numbers.size(),
                             kMostCheckedNumbers);
    }
    sorted = spec.numbers;
    std::sort(sorted.begin(), sorted.end());
    if (sorted.empty() || sorted.front() >= 0) return absl::OkStatus();
    return InvalidArgument("comes with the number {}; 0 or more is allowed", sorted.front());
  }

  absl::Status Parse() {
    switch (spec.kind) {
      case CheckerSpec::Kind::kArithmetic:
        return ParseArithmetic();
      case CheckerSpec::Kind::kRegex: {
        RETURN_IF_ERROR(CheckBytes(spec.argument, kMostPatternBytes));
        ASSIGN_OR_RETURN(pattern, CompilePattern(spec.argument, kMostSteps));
        return absl::OkStatus();
      }
      case CheckerSpec::Kind::kJsonSchema: {
        ASSIGN_OR_RETURN(schema, JsonSchema::Parse(spec.argument));
        return absl::OkStatus();
      }
    }
    CHECK(false);
  }

  absl::Status CheckArithmetic(std::string_view answer) const {
    ASSIGN_OR_RETURN(Expression expression, Evaluate(answer));
    std::sort(expression.numbers.begin(), expression.numbers.end());
    if (!sorted.empty() && expression.numbers != sorted) {
      return InvalidArgument("is made of {}, not of {}", TextOf(expression.numbers),
                             TextOf(sorted));
    }
    if (expression.value == value) return absl::OkStatus();
    return InvalidArgument("comes to {}, not to {}", conclave::TextOf(expression.value),
                           conclave::TextOf(value));
  }

  absl::Status CheckPattern(std::string_view answer) const {
    const auto steps = static_cast<size_t>(pattern->ProgramSize());
    if (answer.size() > kMostPatternWork / steps) {
      return InvalidArgument("has {} bytes; the limit is {} with this pattern", answer.size(),
                             kMostPatternWork / steps);
    }
    if (RE2::FullMatch(re2::StringPiece(answer.data(), answer.size()), *pattern)) {
      return absl::OkStatus();
    }
    return InvalidArgument("does not match the pattern");
  }

  absl::Status Check(std::string_view answer) const {
    switch (spec.kind) {
      case CheckerSpec::Kind::kArithmetic:
        return CheckArithmetic(answer);
      case CheckerSpec::Kind::kRegex:
        return CheckPattern(answer);
      case CheckerSpec::Kind::kJsonSchema:
        return schema->Check(answer);
    }
    CHECK(false);
  }
};

Checker::Checker(std::shared_ptr<const Rules> rules) : rules_(std::move(rules)) {}

absl::StatusOr<Checker> Checker::Parse(const CheckerSpec& spec) {
  auto rules = std::make_shared<Rules>();
  rules->spec = spec;
  RETURN_IF_ERROR(rules->Parse());
  return Checker(std::move(rules));
}

Verdict Checker::Check(std::string_view answer) const {
  const absl::Status checked = rules_->Check(TrimSpace(answer));
  if (checked.ok()) return {.accepted = true, .reason = {}};
  return Rejected(MessageOf(checked));
}

const CheckerSpec& Checker::spec() const { return rules_->spec; }

}  // namespace conclave
