#include "cli/eval/grade.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "common/answer/answer_key.h"
#include "common/answer/normalise.h"
#include "common/status.h"
#include "common/wire/message_wire.h"

namespace conclave::cli {
namespace {

constexpr double kSame = 1e-9;  // Relative: what two ways to write a number may differ by.

std::optional<double> Decimal(std::string_view text) {
  const std::string plain = NormaliseAnswer(text);
  double value = 0;
  const auto [end, error] = std::from_chars(plain.data(), plain.data() + plain.size(), value);
  if (error != std::errc() || end != plain.data() + plain.size() || plain.empty()) {
    return std::nullopt;
  }
  return value;
}

std::optional<double> Number(std::string_view text) {
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos) return Decimal(text);
  const auto above = Decimal(text.substr(0, slash)), below = Decimal(text.substr(slash + 1));
  if (!above || !below || *below == 0) return std::nullopt;
  return *above / *below;
}

void Replace(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

// "\text{ cm}" behind something is its unit; alone, "\text{Evelyn}" is the answer.
void PlainText(std::string& text) {
  constexpr std::string_view kText = "\\text{";
  for (size_t at = text.find(kText); at != std::string::npos; at = text.find(kText, at)) {
    const size_t end = text.find('}', at);
    if (end == std::string::npos) return;
    const size_t begin = at + kText.size();
    const std::string inside = at == 0 ? text.substr(begin, end - begin) : std::string();
    text.replace(at, end + 1 - at, inside);
  }
}

// "\frac12" as "\frac{1}{2}".
void BraceFractions(std::string& text) {
  constexpr std::string_view kFrac = "\\frac";
  for (size_t at = text.find(kFrac); at != std::string::npos; at = text.find(kFrac, at + 1)) {
    size_t part = at + kFrac.size();
    for (int i = 0; i < 2 && part < text.size(); ++i) {
      if (text[part] != '{') {
        text.insert(part + 1, "}");
        text.insert(part, "{");
      }
      part = text.find('}', part);
      part = part == std::string::npos ? text.size() : part + 1;
    }
  }
}

// "3/4" alone as "\frac{3}{4}".
void SpellFraction(std::string& text) {
  const size_t slash = text.find('/');
  if (slash == std::string::npos || slash == 0 || slash + 1 == text.size()) return;
  const size_t begin = text[0] == '-' ? 1 : 0;
  const auto digits = [](std::string_view part) {
    return !part.empty() &&
           std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
  };
  const std::string above = text.substr(begin, slash - begin), below = text.substr(slash + 1);
  if (!digits(above) || !digits(below)) return;
  text = std::string(begin, '-') + "\\frac{" + above + "}{" + below + "}";
}

}  // namespace

bool SameNumber(std::string_view a, std::string_view b) {
  const auto first = Number(a), second = Number(b);
  if (!first || !second) return false;
  const double scale = std::max({1.0, std::abs(*first), std::abs(*second)});
  return std::abs(*first - *second) <= kSame * scale;
}

std::string PlainLatex(std::string_view formula) {
  std::string text(TrimSpace(formula));
  PlainText(text);
  for (const std::string_view mark : {"\\left", "\\right", "\\!", "\\,", "\\;", "\\ ", "^\\circ",
                                      "^{\\circ}", "\\%", "%", "\\$", "$", " ", "\n", "\t"}) {
    Replace(text, mark, "");
  }
  Replace(text, "\\dfrac", "\\frac");
  Replace(text, "\\tfrac", "\\frac");
  if (text.ends_with('.')) text.pop_back();
  const size_t equals = text.find('=');
  if (equals != std::string::npos && equals <= 2) text.erase(0, equals + 1);
  BraceFractions(text);
  SpellFraction(text);
  return text;
}

absl::StatusOr<Grader> Grader::Make(const Problem& problem) {
  Grader grader;
  grader.match_ = problem.match;
  if (problem.match == Match::kLatex) {
    grader.expected_ = PlainLatex(problem.answer);
  } else {
    grader.expected_ = NormaliseAnswer(problem.answer);
  }
  if (problem.checker) {
    ASSIGN_OR_RETURN(const CheckerSpec spec, FromWire(*problem.checker, "checker"));
    ASSIGN_OR_RETURN(grader.checker_, Checker::Parse(spec));
  }
  return grader;
}

bool Grader::IsRight(std::string_view answer) const {
  switch (match_) {
    case Match::kKey:
      return NormaliseAnswer(answer) == expected_;
    case Match::kNumber:
      return NormaliseAnswer(answer) == expected_ || SameNumber(answer, expected_);
    case Match::kLatex:
      // Keys write answers in lower case.
      return LowerCase(PlainLatex(answer)) == LowerCase(expected_) || SameNumber(answer, expected_);
    case Match::kChecker:
      return checker_ && checker_->Check(answer).accepted;
  }
  return false;
}

}  // namespace conclave::cli
