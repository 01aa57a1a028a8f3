#pragma once

#include <optional>
#include <string>
#include <vector>

#include "conclave/v1/conclave.pb.h"

namespace conclave::cli {

// When an answer is right.
enum class Match {
  kKey,     // It is the expected one in the form in which answers are compared.
  kNumber,  // It is the same number: 0.5 is 1/2.
  kLatex,   // It is the same formula, however it is set.
  kChecker  // The problem's checker accepts it.
};

// A question whose right answers are known.
struct Problem {
  std::string id;        // Of the suite, once.
  std::string question;  // As it is asked, choices included.
  std::string answer;    // Expected. With a checker: one of those that are right.
  Match match = Match::kKey;
  std::optional<v1::Checker> checker;  // With kChecker.
};

// Problems of one kind.
struct Suite {
  std::string name;                         // "story:7 seed 1", "gsm8k test.jsonl".
  std::optional<v1::AnswerKey> answer_key;  // How answers are found; none: as the model does.
  std::vector<Problem> problems;
};

// What is taken of a suite.
struct SuiteRange {
  uint64_t seed = 1;
  int offset = 0;   // Problems that are left out before the first.
  int count = 100;  // Most that are taken.
};

inline constexpr int kMostProblems = 1'000'000;

}  // namespace conclave::cli
