#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

// Arithmetic as agents write it, done exactly.
namespace conclave {

// A fraction in lowest terms; both numbers fit 64 bits, the denominator is above 0.
struct Fraction {
  int64_t numerator = 0;
  int64_t denominator = 1;

  bool operator==(const Fraction&) const = default;
};

// "22", "-7/2".
std::string TextOf(const Fraction& fraction);

// "22", "-3", "7/2": an integer, or two with a slash. kInvalidArgument in words that stand behind
// the text's name.
absl::StatusOr<Fraction> ParseFraction(std::string_view text);

struct Expression {
  Fraction value;
  std::vector<int64_t> numbers;  // That stand in it, in order, without their signs.
};

// The value of integers with + - * /, signs and parentheses (also as × · ÷ −), exactly. Space may
// stand anywhere between them. "= value" may follow; it must be right, and its numbers are not in
// `numbers`. At most 4096 bytes, 256 numbers, 64 parentheses and signs in each other.
// kInvalidArgument in words that stand behind the text's name: "divides by 0", "has '^' at byte 3",
// "leaves 64 bits".
absl::StatusOr<Expression> Evaluate(std::string_view text);

}  // namespace conclave
