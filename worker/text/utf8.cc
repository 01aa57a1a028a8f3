#include "worker/text/utf8.h"

#include <unicode/uchar.h>

#include "common/check.h"

namespace conclave::worker {
namespace {

constexpr unsigned char Byte(std::string_view text, size_t at) {
  return static_cast<unsigned char>(text[at]);
}

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
  return second >= 0x80 && second <= 0xBF;
}

}  // namespace

Utf8Front LookAtUtf8(std::string_view text) {
  using Kind = Utf8Front::Kind;
  const unsigned char lead = Byte(text, 0);
  const size_t length = LengthOf(lead);
  if (length == 0) return {Kind::kInvalid, 1};
  for (size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {Kind::kHalf, i};
    const bool follows = i == 1 ? MayFollow(lead, Byte(text, 1)) : (Byte(text, i) & 0xC0) == 0x80;
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

Utf8Char ReadUtf8(std::string_view text) {
  const unsigned char lead = Byte(text, 0);
  const size_t length = LengthOf(lead);
  DCHECK(length > 0 && length <= text.size());
  if (length == 1) return {lead, 1};
  uint32_t code = lead & (0xFFu >> (length + 1));
  for (size_t i = 1; i < length; ++i) code = code << 6 | (Byte(text, i) & 0x3Fu);
  return {code, length};
}

Utf8Char LastUtf8(std::string_view text) {
  size_t begin = text.size() - 1;
  while (begin > 0 && (Byte(text, begin) & 0xC0u) == 0x80u) --begin;
  return ReadUtf8(text.substr(begin));
}

bool IsWhiteSpace(uint32_t code) { return u_isUWhiteSpace(static_cast<UChar32>(code)) != 0; }

void AppendUtf8(uint32_t code, std::string& out) {
  const auto put = [&out](uint32_t byte) { out += static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

}  // namespace conclave::worker
