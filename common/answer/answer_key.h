#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace conclave {

// Changes whenever Extract or a stop rule gives another result for the same input. A replay
// compares it.
inline constexpr int kDecisionVersion = 4;

// How an answer is found in an agent's text.
struct AnswerKeySpec {
  enum class Kind { kBoxed, kAnswerLine, kJsonField, kRegex, kLastLine, kWholeText };
  Kind kind = Kind::kWholeText;
  std::string argument;  // kJsonField: the field's name. kRegex: an RE2 pattern with one group.
                         // Otherwise empty.

  bool operator==(const AnswerKeySpec&) const = default;
};

// Finds the answer in a text and brings it to the form in which two answers are compared.
// Immutable, so any thread may use it; cheap to copy. Used by the worker (answer found), the router
// (tally) and the client (evaluation).
class AnswerKey {
 public:
  // kInvalidArgument when the argument is missing, superfluous, too long, or not a valid pattern of
  // bounded cost.
  static absl::StatusOr<AnswerKey> Parse(const AnswerKeySpec& spec);

  // The normalised answer, or nullopt when the text holds none. `text` is the answer part: what
  // follows the end of thinking. Only its last 256 KiB are looked at. Boxed: the last \boxed{...}
  // that closes. Answer line: the last "Answer: ..." line, in any case, with or without **. JSON:
  // the last object that holds the field. Regex: group 1 of the last match. Empty finds are
  // skipped.
  std::optional<std::string> Extract(std::string_view text) const;

  // The same as it was written, without outer space: what a checker looks at.
  std::optional<std::string> Find(std::string_view text) const;

  const AnswerKeySpec& spec() const;

 private:
  struct Rules;
  explicit AnswerKey(std::shared_ptr<const Rules> rules);
  std::shared_ptr<const Rules> rules_;  // Shared by copies: compiled once, never changed.
};

// The form in which answers are compared: outer space removed; numbers in one spelling (1,000 =
// 1000.0 = 1e3 = 1000; $ and trailing full stop removed; -0 = 0), digit by digit, so that huge ones
// compare exactly; everything else with runs of space made one, and in lower case. Space and case
// are ASCII's, whatever the locale.
std::string NormaliseAnswer(std::string_view answer);

}  // namespace conclave
