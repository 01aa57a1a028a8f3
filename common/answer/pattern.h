#pragma once

#include <absl/status/statusor.h>
#include <re2/re2.h>

#include <cstddef>
#include <memory>
#include <string>

// RE2 patterns of strangers: bounded in memory, and in the steps that they make.
namespace conclave {

// Steps (bytes of text x instructions of the pattern, what RE2's slowest engine takes) that one
// text and pattern may cost: no more than a moment, though all agents of a request are looked at,
// and some twice.
inline constexpr size_t kMostPatternWork = size_t{2} << 20;

// kInvalidArgument, to be read behind "pattern": "is not valid: missing )", "makes 900 steps of
// each byte; the limit is 500".
absl::StatusOr<std::unique_ptr<const RE2>> CompilePattern(const std::string& pattern,
                                                          int most_steps);

}  // namespace conclave
