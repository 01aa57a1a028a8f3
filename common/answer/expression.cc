#include "common/answer/expression.h"

#include <absl/numeric/int128.h>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <utility>

#include "common/answer/normalise.h"
#include "common/status.h"

namespace conclave {
namespace {

constexpr size_t kMostBytes = 4096;
constexpr size_t kMostNumbers = 256;
constexpr int kMostDepth = 64;

using Wide = absl::int128;

Wide Magnitude(Wide value) { return value < 0 ? -value : value; }

// In lowest terms. REQUIRES: neither number is below -2^127 + 1.
absl::StatusOr<Fraction> Reduced(Wide numerator, Wide denominator) {
  if (denominator == 0) return InvalidArgument("divides by 0");
  if (denominator < 0) {
    numerator = -numerator;
    denominator = -denominator;
  }
  Wide a = Magnitude(numerator), b = denominator;
  while (b != 0) a = std::exchange(b, a % b);
  numerator /= a;
  denominator /= a;
  // So no product of two is ever beyond 2^126, and no sum of two such beyond 2^127.
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  if (Magnitude(numerator) > kMost || denominator > kMost) {
    return InvalidArgument("leaves 64 bits");
  }
  return Fraction{static_cast<int64_t>(numerator), static_cast<int64_t>(denominator)};
}

absl::StatusOr<Fraction> Apply(const Fraction& a, char sign, const Fraction& b) {
  const Wide an = a.numerator, ad = a.denominator, bn = b.numerator, bd = b.denominator;
  switch (sign) {
    case '+':
      return Reduced(an * bd + bn * ad, ad * bd);
    case '-':
      return Reduced(an * bd - bn * ad, ad * bd);
    case '*':
      return Reduced(an * bn, ad * bd);
    default:
      return Reduced(an * bd, ad * bn);
  }
}

// Spellings of the signs in one byte each: ASCII's, ×, ·, ÷, − (U+2212).
struct Spelling {
  std::string_view text;
  char sign;
};
constexpr Spelling kSpellings[] = {{"+", '+'},        {"-", '-'},           {"*", '*'},
                                   {"/", '/'},        {"(", '('},           {")", ')'},
                                   {"=", '='},        {"\xC3\x97", '*'},    {"\xC2\xB7", '*'},
                                   {"\xC3\xB7", '/'}, {"\xE2\x88\x92", '-'}};

// Reads from left to right; each rule leaves the place behind what it has read.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  absl::StatusOr<Expression> Whole() {
    Expression expression;
    ASSIGN_OR_RETURN(expression.value, Sum(0));
    expression.numbers = std::move(numbers_);
    if (Take('=')) {
      ASSIGN_OR_RETURN(const Fraction said, Sum(0));
      if (said != expression.value) {
        return InvalidArgument("says that {} is {}", TextOf(expression.value), TextOf(said));
      }
    }
    if (Peek() != kEnd) return Unexpected();
    return expression;
  }

 private:
  static constexpr char kEnd = 0, kDigit = 'd', kOther = '?';

  void SkipSpace() {
    while (at_ < text_.size() && IsSpace(text_[at_])) ++at_;
  }

  const Spelling* SpellingHere() const {
    const std::string_view rest = text_.substr(at_);
    const auto* found =
        std::find_if(std::begin(kSpellings), std::end(kSpellings),
                     [rest](const Spelling& s) { return rest.substr(0, s.text.size()) == s.text; });
    return found == std::end(kSpellings) ? nullptr : found;
  }

  char Peek() {
    SkipSpace();
    if (at_ == text_.size()) return kEnd;
    if (text_[at_] >= '0' && text_[at_] <= '9') return kDigit;
    const Spelling* spelling = SpellingHere();
    return spelling == nullptr ? kOther : spelling->sign;
  }

  bool Take(char sign) {
    if (Peek() != sign) return false;
    at_ += SpellingHere()->text.size();
    return true;
  }

  absl::Status Unexpected() {
    if (Peek() == kEnd) return InvalidArgument("breaks off");
    const auto c = static_cast<unsigned char>(text_[at_]);
    if (c > ' ' && c < 0x7f) return InvalidArgument("has '{}' at byte {}", text_[at_], at_ + 1);
    return InvalidArgument("has 0x{:02x} at byte {}", c, at_ + 1);
  }

  absl::StatusOr<Fraction> Sum(int depth) {
    ASSIGN_OR_RETURN(Fraction value, Product(depth));
    for (char sign = Peek(); sign == '+' || sign == '-'; sign = Peek()) {
      Take(sign);
      ASSIGN_OR_RETURN(const Fraction next, Product(depth));
      ASSIGN_OR_RETURN(value, Apply(value, sign, next));
    }
    return value;
  }

  absl::StatusOr<Fraction> Product(int depth) {
    ASSIGN_OR_RETURN(Fraction value, Factor(depth));
    for (char sign = Peek(); sign == '*' || sign == '/'; sign = Peek()) {
      Take(sign);
      ASSIGN_OR_RETURN(const Fraction next, Factor(depth));
      ASSIGN_OR_RETURN(value, Apply(value, sign, next));
    }
    return value;
  }

  absl::StatusOr<Fraction> Factor(int depth) {
    if (depth > kMostDepth) return InvalidArgument("is nested deeper than {}", kMostDepth);
    if (Take('+')) return Factor(depth + 1);
    if (Take('-')) {
      ASSIGN_OR_RETURN(const Fraction value, Factor(depth + 1));
      return Fraction{-value.numerator, value.denominator};
    }
    if (Take('(')) {
      ASSIGN_OR_RETURN(const Fraction value, Sum(depth + 1));
      if (!Take(')')) return Unexpected();
      return value;
    }
    return Number();
  }

  absl::StatusOr<Fraction> Number() {
    if (Peek() != kDigit) return Unexpected();
    Wide value = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      value = value * 10 + (text_[at_] - '0');
      if (value > std::numeric_limits<int64_t>::max()) return InvalidArgument("leaves 64 bits");
    }
    if (numbers_.size() == kMostNumbers) {
      return InvalidArgument("has more than {} numbers", kMostNumbers);
    }
    numbers_.push_back(static_cast<int64_t>(value));
    return Fraction{numbers_.back(), 1};
  }

  const std::string_view text_;
  size_t at_ = 0;
  std::vector<int64_t> numbers_;
};

}  // namespace

std::string TextOf(const Fraction& fraction) {
  return fraction.denominator == 1 ? fmt::format("{}", fraction.numerator)
                                   : fmt::format("{}/{}", fraction.numerator, fraction.denominator);
}

absl::StatusOr<Expression> Evaluate(std::string_view text) {
  if (text.size() > kMostBytes) {
    return InvalidArgument("has {} bytes; the limit is {}", text.size(), kMostBytes);
  }
  return Reader(text).Whole();
}

absl::StatusOr<Fraction> ParseFraction(std::string_view text) {
  const bool plain = text.find_first_not_of("-0123456789/") == std::string_view::npos &&
                     text.find('-', 1) == std::string_view::npos &&
                     text.find('/') == text.rfind('/');
  if (!plain) return InvalidArgument("is neither an integer nor a fraction");
  ASSIGN_OR_RETURN(const Expression expression, Evaluate(text));
  return expression.value;
}

}  // namespace conclave
