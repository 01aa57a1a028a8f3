#include "common/answer/normalise.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "common/answer/answer_key.h"

namespace conclave {
namespace {

// Numbers are compared digit by digit, never through a double: huge ones stay different. An
// exponent beyond this is left as text, so that "1e999999999" takes no memory.
constexpr int kMaxExponent = 400;

constexpr bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool Consume(std::string_view& text, std::string_view prefix) {
  if (text.substr(0, prefix.size()) != prefix) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// Takes a sign off the front; true for a minus (the ASCII one or U+2212).
bool ConsumeSign(std::string_view& text) {
  if (Consume(text, "-") || Consume(text, "\xE2\x88\x92")) return true;
  Consume(text, "+");
  return false;
}

// The digits of "1234" or "1,234"; nullopt when commas stand elsewhere than after each third digit.
std::optional<std::string> ConsumeWhole(std::string_view& text) {
  std::string digits;
  size_t i = 0, group = 0;
  bool commas = false;
  for (; i < text.size(); ++i) {
    if (IsDigit(text[i])) {
      digits += text[i];
      ++group;
    } else if (text[i] == ',') {
      if (commas ? group != 3 : (group == 0 || group > 3)) return std::nullopt;
      commas = true;
      group = 0;
    } else {
      break;
    }
  }
  if (commas && group != 3) return std::nullopt;
  text.remove_prefix(i);
  return digits;
}

std::string ConsumeDigits(std::string_view& text) {
  size_t i = 0;
  while (i < text.size() && IsDigit(text[i])) ++i;
  std::string digits(text.substr(0, i));
  text.remove_prefix(i);
  return digits;
}

// The value of "e+12" at the front, 0 when there is none; nullopt when it is no exponent or beyond
// the limit.
std::optional<int> ConsumeExponent(std::string_view& text) {
  if (text.empty() || (text[0] != 'e' && text[0] != 'E')) return 0;
  text.remove_prefix(1);
  const bool negative = !text.empty() && text[0] == '-';
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  const std::string digits = ConsumeDigits(text);
  if (digits.empty() || digits.size() > 6) return std::nullopt;
  const int value = std::stoi(digits);
  if (value > kMaxExponent) return std::nullopt;
  return negative ? -value : value;
}

// The number's one spelling: no sign but a minus, no leading or trailing zeros, no exponent, no
// negative zero.
std::string Spell(bool negative, std::string whole, std::string fraction, int exponent) {
  for (; exponent > 0; --exponent) {
    whole += fraction.empty() ? '0' : fraction[0];
    if (!fraction.empty()) fraction.erase(0, 1);
  }
  for (; exponent < 0; ++exponent) {
    fraction.insert(fraction.begin(), whole.empty() ? '0' : whole.back());
    if (!whole.empty()) whole.pop_back();
  }
  whole.erase(0, whole.find_first_not_of('0'));
  fraction.erase(fraction.find_last_not_of('0') + 1);
  const bool zero = whole.empty() && fraction.empty();
  std::string spelled = negative && !zero ? "-" : "";
  spelled += whole.empty() ? "0" : whole;
  if (!fraction.empty()) spelled += "." + fraction;
  return spelled;
}

std::optional<std::string> NormalNumber(std::string_view text) {
  bool negative = ConsumeSign(text);
  if (Consume(text, "$") || Consume(text, "\\$")) {
    text = TrimSpace(text);
    if (!negative) negative = ConsumeSign(text);
  }
  std::optional<std::string> whole = ConsumeWhole(text);
  if (!whole) return std::nullopt;
  std::string fraction;
  if (Consume(text, ".")) fraction = ConsumeDigits(text);
  if (whole->empty() && fraction.empty()) return std::nullopt;
  const std::optional<int> exponent = ConsumeExponent(text);
  if (!exponent) return std::nullopt;
  Consume(text, ".");  // The full stop of the sentence. ("5." has lost it above already.)
  if (!text.empty()) return std::nullopt;
  return Spell(negative, *std::move(whole), std::move(fraction), *exponent);
}

}  // namespace

std::string_view TrimSpace(std::string_view text) {
  while (!text.empty() && IsSpace(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsSpace(text.back())) text.remove_suffix(1);
  return text;
}

std::string LowerCase(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

std::string NormaliseAnswer(std::string_view answer) {
  answer = TrimSpace(answer);
  if (std::optional<std::string> number = NormalNumber(answer)) return *std::move(number);
  std::string normal;
  for (const char c : answer) {
    if (!IsSpace(c)) {
      normal += c;
    } else if (normal.back() != ' ') {  // Never empty here: outer space is gone.
      normal += ' ';
    }
  }
  return LowerCase(normal);
}

}  // namespace conclave
