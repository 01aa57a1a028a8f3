#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace conclave {

// What the bytes at the front are: a whole character (its length; shortest forms, no surrogates, up
// to U+10FFFF), a prefix of one that more bytes could complete (kHalf), or a maximal invalid prefix
// (its length).
struct Utf8Front {
  enum class Kind : uint8_t { kWhole, kHalf, kInvalid };
  Kind kind = Kind::kWhole;
  size_t bytes = 1;
};
// REQUIRES: not empty.
Utf8Front LookAtUtf8(std::string_view text);

// Where the first byte stands that is not part of a character; text.size() when all are.
size_t FirstInvalidUtf8(std::string_view text);

// `text` with U+FFFD for whatever is no character. For words of a file or a process that go into a
// protobuf string: its reader refuses the whole message otherwise.
std::string ValidUtf8(std::string_view text);

// The longest front of at most `most` bytes that ends with a whole character.
std::string_view FirstCharacters(std::string_view text, size_t most);

}  // namespace conclave
