#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/utf8.h"

namespace conclave::worker {

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

}  // namespace conclave::worker
