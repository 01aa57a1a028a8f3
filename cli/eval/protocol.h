#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <vector>

#include "cli/eval/suite.h"

namespace conclave::cli {

// How questions of published benchmarks are asked: protocols.yaml, which is part of the program.
struct Prompts {
  std::string gsm8k, math500;  // With {question}.
  std::string choices;         // With {question}, {choices} (lines "A) text") and {letters}.
};

// Reads `path`, or what is part of the program when it is empty.
absl::StatusOr<Prompts> LoadPrompts(const std::string& path = "");

// A question with its choices, as `text` puts it.
std::string AskChoices(const std::string& text, const std::string& question,
                       const std::vector<std::string>& choices);

// Finds the letter behind "Answer:", as simple-evals does.
v1::AnswerKey ChoiceKey();

// A benchmark from its authors' file: "gsm8k" (JSON lines; the answer stands behind ####, and so it
// is found in what a model writes), "math500" (JSON lines; \boxed{}), "gpqa" (the published CSV;
// `repeats` times, each with its four choices in an order drawn by range.seed). The range counts
// questions before they are repeated. kInvalidArgument names the line and what is wrong there.
absl::StatusOr<Suite> ParseProtocol(const std::string& protocol, std::string_view text,
                                    const Prompts& prompts, const SuiteRange& range, int repeats);

// Rows of fields (RFC 4180): quoted ones may hold commas, line breaks and doubled quotes.
// kInvalidArgument where a quote is not closed, or what follows one is no comma.
absl::StatusOr<std::vector<std::vector<std::string>>> ParseCsv(std::string_view text);

}  // namespace conclave::cli
