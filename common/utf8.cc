#include "common/utf8.h"

namespace conclave {
namespace {

constexpr unsigned char Byte(std::string_view text, size_t at) {
  return static_cast<unsigned char>(text[at]);
}

constexpr bool Continues(unsigned char byte) { return (byte & 0xC0) == 0x80; }

// Length of the character that begins with `lead`; 0 when none does.
constexpr size_t LengthOf(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return 2;
  if (lead >= 0xE0 && lead <= 0xEF) return 3;
  if (lead >= 0xF0 && lead <= 0xF4) return 4;
  return 0;
}

// Whether `second` may follow `lead`: rules out overlong forms, surrogates, and what lies beyond
// U+10FFFF (Unicode standard, table 3-7).
constexpr bool MayFollow(unsigned char lead, unsigned char second) {
  if (lead == 0xE0) return second >= 0xA0 && second <= 0xBF;
  if (lead == 0xED) return second >= 0x80 && second <= 0x9F;
  if (lead == 0xF0) return second >= 0x90 && second <= 0xBF;
  if (lead == 0xF4) return second >= 0x80 && second <= 0x8F;
  return Continues(second);
}

}  // namespace

Utf8Front LookAtUtf8(std::string_view text) {
  using Kind = Utf8Front::Kind;
  const unsigned char lead = Byte(text, 0);
  const size_t length = LengthOf(lead);
  if (length == 0) return {Kind::kInvalid, 1};
  for (size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {Kind::kHalf, i};
    const bool follows = i == 1 ? MayFollow(lead, Byte(text, 1)) : Continues(Byte(text, i));
    if (!follows) return {Kind::kInvalid, i};
  }
  return {Kind::kWhole, length};
}

size_t FirstInvalidUtf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const Utf8Front front = LookAtUtf8(text.substr(at));
    if (front.kind != Utf8Front::Kind::kWhole) break;
    at += front.bytes;
  }
  return at;
}

std::string ValidUtf8(std::string_view text) {
  std::string valid;
  valid.reserve(text.size());
  while (true) {
    const size_t good = FirstInvalidUtf8(text);
    valid += text.substr(0, good);
    if (good == text.size()) return valid;
    text.remove_prefix(good);
    valid += "\uFFFD";
    text.remove_prefix(LookAtUtf8(text).bytes);
  }
}

std::string_view FirstCharacters(std::string_view text, size_t most) {
  if (text.size() <= most) return text;
  size_t bytes = most;
  // A character has at most 4 bytes; what is no UTF-8 is cut anywhere.
  for (int back = 0; back < 3 && bytes > 0 && Continues(Byte(text, bytes)); ++back) --bytes;
  return text.substr(0, bytes);
}

}  // namespace conclave
