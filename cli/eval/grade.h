#pragma once

#include <absl/status/statusor.h>

#include <optional>
#include <string>
#include <string_view>

#include "cli/eval/suite.h"
#include "common/answer/checker.h"

namespace conclave::cli {

// Says whether an answer to one problem is right. Immutable.
class Grader {
 public:
  // kInvalidArgument when the problem's checker is none.
  static absl::StatusOr<Grader> Make(const Problem& problem);

  // `answer`: as the answer key found it.
  bool IsRight(std::string_view answer) const;

 private:
  Match match_ = Match::kKey;
  std::string expected_;  // In the form in which it is compared.
  std::optional<Checker> checker_;
};

// Whether both are numbers, and equal: decimals ("1,000.5", "5e2") and fractions ("1/2").
bool SameNumber(std::string_view a, std::string_view b);

// A formula as it is compared: without spaces, dollar signs, size marks (\left, \!), units in
// \text, and a name in front ("x="); \dfrac and \tfrac as \frac, "a/b" and \frac12 as \frac{1}{2}.
std::string PlainLatex(std::string_view formula);

}  // namespace conclave::cli
