#pragma once

#include <absl/time/time.h>

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "common/config.h"

// How config files write values, and what is said about those that are wrong.
namespace conclave {

// Whether a text is a value, and what is wrong with it: words that follow the quoted text.
struct ParsedText {
  bool ok = false;
  std::string wrong;
};

ParsedText ParseWhole(const std::string& text, int64_t* number);
ParsedText ParseReal(const std::string& text, double* number);
ParsedText ParseLength(const std::string& text, absl::Duration* duration);
ParsedText ParseSize(const std::string& text, ByteSize* size);

std::string ShowValue(int64_t number);
std::string ShowValue(double number);
std::string ShowValue(absl::Duration duration);
// In the greatest unit that divides it: "64MiB".
std::string ShowValue(ByteSize size);

// How many letters must be put in, left out, changed, or swapped with their neighbour to make `b`
// of `a`. Both short: takes the product of their lengths.
int EditDistance(std::string_view a, std::string_view b);
// The greatest distance at which one word may have been meant as another, whose lengths these are.
int MeantDistance(size_t length, size_t other);

// "rows[3].length" as "rows[].length": the same for every entry of a list.
std::string AnyIndex(std::string_view path);

// The key paths of `known` (as AnyIndex gives them) that may have been meant by `path`, which is
// not one of them: at most three, ready to be read, "\"a.b\" or \"c.b\"". Empty: none is near.
std::string MeantPaths(std::string_view path, const std::set<std::string>& known);

}  // namespace conclave
