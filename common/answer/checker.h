#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace conclave {

inline constexpr int kMostCheckedNumbers = 64;

// How right answers are told from wrong ones.
struct CheckerSpec {
  enum class Kind { kArithmetic, kRegex, kJsonSchema };
  Kind kind = Kind::kRegex;
  std::string argument;          // kArithmetic: the value, "22" or "7/2". kRegex: an RE2 pattern.
                                 // kJsonSchema: the schema.
  std::vector<int64_t> numbers;  // kArithmetic: what the answer must be made of; empty: of any.

  bool operator==(const CheckerSpec&) const = default;
};

// What is said of an answer.
struct Verdict {
  bool accepted = false;
  std::string reason;  // Why not, at most 256 bytes of UTF-8. Empty when it is accepted.

  bool operator==(const Verdict&) const = default;
};

// Tells right answers from wrong ones, exactly: the same verdict on every machine. Immutable, so
// any thread may use it; cheap to copy. Used by the router (while it counts) and the client
// (evaluation).
class Checker {
 public:
  // kInvalidArgument, in words that stand behind the argument's name, when it is empty, too long or
  // no such thing ("is not valid: missing )"), and for numbers below 0 or too many of them.
  static absl::StatusOr<Checker> Parse(const CheckerSpec& spec);

  // `answer`: as AnswerKey::Find gives it; outer space does not matter. Arithmetic: an expression
  // (expression.h) that comes to the value and uses each of the numbers once and no other. Regex:
  // the pattern matches all of it. JSON schema: json_schema.h. What would take more than a moment
  // is rejected.
  Verdict Check(std::string_view answer) const;

  const CheckerSpec& spec() const;

 private:
  struct Rules;
  explicit Checker(std::shared_ptr<const Rules> rules);
  std::shared_ptr<const Rules> rules_;  // Shared by copies: compiled once, never changed.
};

}  // namespace conclave
