#include "worker/text/utf8.h"

#include <unicode/uchar.h>

#include "common/check.h"

namespace conclave::worker {
namespace {

constexpr unsigned char Byte(std::string_view text, size_t at) {
  return static_cast<unsigned char>(text[at]);
}

// Length of the character of valid text that begins with `lead`.
constexpr size_t LengthOf(unsigned char lead) {
  if (lead < 0x80) return 1;
  return lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

}  // namespace

Utf8Char ReadUtf8(std::string_view text) {
  const unsigned char lead = Byte(text, 0);
  const size_t length = LengthOf(lead);
  DCHECK(length <= text.size());
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
