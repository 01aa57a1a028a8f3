#include "worker/text/template_strings.h"

#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>

#include "worker/text/utf8.h"

namespace conclave::worker {
namespace {

bool Holds(std::string_view set, std::string_view character) {
  for (size_t at = set.find(character); at != std::string_view::npos;
       at = set.find(character, at + 1)) {
    return true;  // UTF-8: a whole character is never found inside of others.
  }
  return false;
}

bool IsOpening(uint32_t code) {
  return code == '-' || code == '(' || code == '{' || code == '[' || code == '<';
}

// Calls visit(begin, end) for each word.
template <typename Visit>
void ForEachWord(std::string_view bytes, const Visit& visit) {
  size_t begin = 0;
  bool inside = false;
  for (size_t at = 0; at <= bytes.size();) {
    const bool end = at == bytes.size();
    const Utf8Char c = end ? Utf8Char{' ', 1} : ReadUtf8(bytes.substr(at));
    const bool space = end || IsPythonSpace(c.code);
    if (inside && space) visit(begin, at);
    if (!inside && !space) begin = at;
    inside = !space;
    at += c.bytes;
  }
}

// Calls visit(begin, end, next) for each line, which ends before its line end; `next` is behind it.
template <typename Visit>
void ForEachLine(std::string_view bytes, const Visit& visit) {
  size_t begin = 0;
  for (size_t at = 0; at < bytes.size();) {
    const Utf8Char c = ReadUtf8(bytes.substr(at));
    const bool ends = (c.code >= 0x0A && c.code <= 0x0D) || (c.code >= 0x1C && c.code <= 0x1E) ||
                      c.code == 0x85 || c.code == 0x2028 || c.code == 0x2029;
    size_t next = at + c.bytes;
    if (c.code == '\r' && next < bytes.size() && bytes[next] == '\n') ++next;
    if (ends) {
      visit(begin, at, next);
      begin = next;
    }
    at = next;
  }
  if (begin < bytes.size()) visit(begin, bytes.size(), bytes.size());
}

}  // namespace

size_t CountTemplateWords(const MarkedString& text) {
  size_t count = 0;
  ForEachWord(text.text(), [&](size_t, size_t) { ++count; });
  return count;
}

size_t CountTemplateParts(const MarkedString& text, std::string_view separator, int64_t limit) {
  size_t count = 1;
  for (size_t at = 0; limit != 0; --limit) {
    at = text.text().find(separator, at);
    if (at == std::string::npos) break;
    at += separator.size();
    ++count;
  }
  return count;
}

size_t CountTemplateLines(const MarkedString& text) {
  size_t count = 0;
  ForEachLine(text.text(), [&](size_t, size_t, size_t) { ++count; });
  return count;
}

bool IsPythonSpace(uint32_t code) { return (code >= 0x1C && code <= 0x1F) || IsWhiteSpace(code); }

MarkedString StripTemplateText(const MarkedString& text, const std::string_view* set,
                               TextSide side) {
  const std::string_view bytes = text.text();
  size_t begin = 0, end = bytes.size();
  const auto goes = [&](size_t at, const Utf8Char& c) {
    return set != nullptr ? Holds(*set, bytes.substr(at, c.bytes)) : IsPythonSpace(c.code);
  };
  while (side != TextSide::kRight && begin < end) {
    const Utf8Char c = ReadUtf8(bytes.substr(begin));
    if (!goes(begin, c)) break;
    begin += c.bytes;
  }
  while (side != TextSide::kLeft && begin < end) {
    const Utf8Char c = LastUtf8(bytes.substr(0, end));
    if (!goes(end - c.bytes, c)) break;
    end -= c.bytes;
  }
  return text.Slice(begin, end - begin);
}

MarkedString CaseTemplateText(const MarkedString& text, TextCase how) {
  const std::string_view bytes = text.text();
  MarkedString out;
  size_t at = 0;
  bool starts = true;  // A word.
  for (const MarkedString::Run& run : text.runs()) {
    std::string changed;
    while (at < run.end) {
      const Utf8Char c = ReadUtf8(bytes.substr(at));
      const bool upper = how == TextCase::kUpper || (how != TextCase::kLower && starts);
      if (c.code < 0x80) {
        const int ascii = static_cast<int>(c.code);
        changed += static_cast<char>(upper ? ascii - (ascii >= 'a' && ascii <= 'z' ? 32 : 0)
                                           : ascii + (ascii >= 'A' && ascii <= 'Z' ? 32 : 0));
      } else {
        icu::UnicodeString one(static_cast<UChar32>(c.code));
        (upper ? one.toUpper(icu::Locale::getRoot()) : one.toLower(icu::Locale::getRoot()))
            .toUTF8String(changed);
      }
      if (how == TextCase::kTitle) {
        starts = u_hasBinaryProperty(static_cast<UChar32>(c.code), UCHAR_CASED) == 0;
      } else {
        starts = how == TextCase::kFilterTitle && (IsPythonSpace(c.code) || IsOpening(c.code));
      }
      at += c.bytes;
    }
    out.Append(changed, run.author);
  }
  return out;
}

std::vector<MarkedString> SplitTemplateText(const MarkedString& text, int64_t limit,
                                            bool from_right) {
  std::vector<std::pair<size_t, size_t>> words;  // All of them, first to last.
  ForEachWord(text.text(), [&](size_t begin, size_t end) { words.emplace_back(begin, end); });
  std::vector<MarkedString> parts;
  const size_t most = limit < 0 ? words.size() : static_cast<size_t>(limit);
  if (words.size() <= most + 1 && (limit < 0 || words.size() <= most)) {
    for (const auto& [from, to] : words) parts.push_back(text.Slice(from, to - from));
    return parts;
  }
  if (words.empty()) return parts;
  if (from_right) {
    const size_t joined = words.size() - most;  // Words of the first part.
    parts.push_back(
        StripTemplateText(text.Slice(0, words[joined - 1].second), nullptr, TextSide::kRight));
    for (size_t i = joined; i < words.size(); ++i) {
      parts.push_back(text.Slice(words[i].first, words[i].second - words[i].first));
    }
    return parts;
  }
  for (size_t i = 0; i < most; ++i) {
    parts.push_back(text.Slice(words[i].first, words[i].second - words[i].first));
  }
  parts.push_back(text.Slice(words[most].first));
  return parts;
}

std::vector<MarkedString> SplitTemplateTextRight(const MarkedString& text,
                                                 std::string_view separator, int64_t limit) {
  std::vector<MarkedString> parts;
  size_t end = text.size();
  while (limit != 0 && end >= separator.size()) {
    const size_t at = text.text().rfind(separator, end - separator.size());
    if (at == std::string::npos) break;
    parts.push_back(text.Slice(at + separator.size(), end - at - separator.size()));
    end = at;
    if (limit > 0) --limit;
  }
  parts.push_back(text.Slice(0, end));
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<MarkedString> TemplateLines(const MarkedString& text, bool keep) {
  std::vector<MarkedString> lines;
  ForEachLine(text.text(), [&](size_t begin, size_t end, size_t next) {
    lines.push_back(text.Slice(begin, (keep ? next : end) - begin));
  });
  return lines;
}

int64_t TemplateTextLength(const MarkedString& text) {
  return std::count_if(text.text().begin(), text.text().end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0u) != 0x80u; });
}

}  // namespace conclave::worker
