#pragma once

#include <string>
#include <string_view>

// The plain words of the answer keys: ASCII only, whatever the locale, so that every process reads
// an answer alike.
namespace conclave {

constexpr bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

std::string_view TrimSpace(std::string_view text);

// A to Z only.
std::string LowerCase(std::string_view text);

}  // namespace conclave
