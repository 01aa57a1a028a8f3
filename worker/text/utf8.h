#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace conclave::worker {

// Where the first byte stands that is not part of a UTF-8 character (shortest forms, no
// surrogates, up to U+10FFFF); text.size() when all are.
size_t FirstInvalidUtf8(std::string_view text);

// Reads one character at the front of a valid text and gives its bytes. REQUIRES: not empty.
struct Utf8Char {
  uint32_t code = 0;
  size_t bytes = 1;
};
Utf8Char ReadUtf8(std::string_view text);

// The same for the character at the end.
Utf8Char LastUtf8(std::string_view text);

void AppendUtf8(uint32_t code, std::string& out);

// Unicode's property White_Space.
bool IsWhiteSpace(uint32_t code);

// What the bytes at the front are: a whole character (its length), a prefix of one that more bytes
// could complete (kHalf), or a maximal invalid prefix (its length).
struct Utf8Front {
  enum class Kind : uint8_t { kWhole, kHalf, kInvalid };
  Kind kind = Kind::kWhole;
  size_t bytes = 1;
};
Utf8Front LookAtUtf8(std::string_view text);

}  // namespace conclave::worker
