#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "worker/text/marked_string.h"

// Python's string methods on marked texts: every byte keeps its author.
namespace conclave::worker {

enum class TextSide { kBoth, kLeft, kRight };

// Without the characters of `set` at the ends; null: without white space, as Python knows it.
MarkedString StripTemplateText(const MarkedString& text, const std::string_view* set,
                               TextSide side);

enum class TextCase {
  kUpper,
  kLower,
  kCapitalize,   // The first character upper, the others lower.
  kTitle,        // Letters behind what is no letter upper: Python's str.title.
  kFilterTitle,  // Behind white space, '-', and opening brackets: Jinja's filter.
};
MarkedString CaseTemplateText(const MarkedString& text, TextCase how);

// How many parts the three below make, so that they can be paid for before they are made; of words,
// as many as there are without a limit.
size_t CountTemplateWords(const MarkedString& text);
size_t CountTemplateParts(const MarkedString& text, std::string_view separator, int64_t limit);
size_t CountTemplateLines(const MarkedString& text);

// At white space, at most `limit` times (negative: always); the ends are stripped. From the right
// where only some are made: `from_right`.
std::vector<MarkedString> SplitTemplateText(const MarkedString& text, int64_t limit,
                                            bool from_right);
// At `separator`, from the right. REQUIRES: a separator.
std::vector<MarkedString> SplitTemplateTextRight(const MarkedString& text,
                                                 std::string_view separator, int64_t limit);
// At line ends; with them: `keep`.
std::vector<MarkedString> TemplateLines(const MarkedString& text, bool keep);

// Characters, as Python counts.
int64_t TemplateTextLength(const MarkedString& text);

// Python's str.isspace of one character.
bool IsPythonSpace(uint32_t code);

}  // namespace conclave::worker
