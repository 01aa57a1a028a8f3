#pragma once

#include <absl/status/statusor.h>

#include <string>

#include "cli/eval/suite.h"

namespace conclave::cli {

// Problems made by a seed, in the words that the model that ships was trained on (its recipe,
// models/conclave-demo/recipe/tasks.py, draws them by the same rules).
struct ProceduralSpec {
  enum class Kind {
    kWord,        // Stories of one or two steps.
    kExpression,  // "What is (12 + 34) * 5?"
    kStory,       // A story of `size` operations: the dial for a vote.
    kChain,       // The same without a story.
    kTarget,    // A number to be made from `size` others: many answers are right, a checker knows.
    kCompare,   // Yes or no: wrong agents agree. The negative control.
    kCompound,  // Two questions and what joins their answers.
    kLong       // `size` words that all questions share, then a question.
  };
  Kind kind = Kind::kStory;
  int size = 0;
};

// "story:7", "compare". kInvalidArgument names the suites that there are, or the sizes.
absl::StatusOr<ProceduralSpec> ParseProcedural(const std::string& name);

// Whether `name` is meant to be one, as far as its word goes.
bool IsProcedural(const std::string& name);

// The problem `index` (at least 0) of a seed: the same on every machine, whatever else is made.
Problem MakeProblem(const ProceduralSpec& spec, uint64_t seed, int index);

// Problems [offset, offset + count) of the seed; so ranges that don't meet hold different ones.
// `name` is the spec's own.
Suite MakeProcedural(const std::string& name, const ProceduralSpec& spec, const SuiteRange& range);

}  // namespace conclave::cli
