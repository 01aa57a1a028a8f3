#include "cli/terminal_text.h"

#include <fmt/format.h>
#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <cstdint>

namespace conclave::cli {
namespace {

constexpr UChar32 kEmojiPresentation = 0xfe0f;
constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD.
constexpr std::string_view kEllipsis = "...";

// One code point of a text; `value` is below 0 where the bytes are no UTF-8.
struct CodePoint {
  UChar32 value = 0;
  std::string_view bytes;
};

CodePoint Next(std::string_view text, size_t at) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  int64_t i = static_cast<int64_t>(at);
  const int64_t size = static_cast<int64_t>(text.size());
  UChar32 value = 0;
  U8_NEXT(bytes, i, size, value);
  return {value, text.substr(at, static_cast<size_t>(i) - at)};
}

bool Steers(UChar32 c) {
  const int8_t type = u_charType(c);
  return type == U_CONTROL_CHAR || type == U_LINE_SEPARATOR || type == U_PARAGRAPH_SEPARATOR ||
         u_hasBinaryProperty(c, UCHAR_BIDI_CONTROL);
}

int ColumnsOf(UChar32 c) {
  if (c < 0x300) return 1;
  if ((c >= 0x1160 && c <= 0x11ff) || (c >= 0xd7b0 && c <= 0xd7ff)) return 0;  // Vowels of Hangul.
  if (c >= 0x600 && c <= 0x605) return 1;  // Arabic number signs: format characters that show.
  const int8_t type = u_charType(c);
  if (type == U_NON_SPACING_MARK || type == U_ENCLOSING_MARK || type == U_FORMAT_CHAR) return 0;
  const int width = u_getIntPropertyValue(c, UCHAR_EAST_ASIAN_WIDTH);
  return width == U_EA_WIDE || width == U_EA_FULLWIDTH ? 2 : 1;
}

// A character with the marks that stand on it: never taken apart.
struct Glyph {
  size_t begin = 0, end = 0;  // Bytes of the text.
  int columns = 0;
};

std::vector<Glyph> GlyphsOf(std::string_view text) {
  std::vector<Glyph> glyphs;
  UChar32 last = 0;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = Next(text, at);
    const size_t end = at + c.bytes.size();
    const int columns = c.value < 0 ? 1 : ColumnsOf(c.value);
    if (columns > 0 || glyphs.empty()) {
      glyphs.push_back({at, end, columns});
    } else {
      glyphs.back().end = end;
      if (c.value == kEmojiPresentation && u_hasBinaryProperty(last, UCHAR_EMOJI)) {
        glyphs.back().columns = 2;
      }
    }
    last = std::max<UChar32>(c.value, 0);
    at = end;
  }
  return glyphs;
}

int Sum(const std::vector<Glyph>& glyphs) {
  int sum = 0;
  for (const Glyph& glyph : glyphs) sum += glyph.columns;
  return sum;
}

// One paragraph: breaks at the last space that fits, else between two glyphs.
void WrapLine(std::string_view line, int columns, std::vector<std::string>& lines) {
  constexpr size_t kNowhere = std::string_view::npos;
  size_t begin = 0, space = kNowhere;
  int width = 0, width_to_space = 0;  // Of the line that began at `begin`; the space included.
  const auto end_line = [&](size_t end, size_t next, int carried) {
    lines.emplace_back(line.substr(begin, end - begin));
    begin = next;
    width = carried;
    space = kNowhere;
  };
  for (const Glyph& glyph : GlyphsOf(line)) {
    const bool is_space = line[glyph.begin] == ' ';
    if (is_space && width + glyph.columns > columns) {
      end_line(glyph.begin, glyph.end, 0);
      continue;
    }
    while (width > 0 && width + glyph.columns > columns) {
      if (space != kNowhere) {
        end_line(space, space + 1, width - width_to_space);
      } else {
        end_line(glyph.begin, glyph.begin, 0);
      }
    }
    width += glyph.columns;
    if (is_space) {
      space = glyph.begin;
      width_to_space = width;
    }
  }
  lines.emplace_back(line.substr(begin));
}

}  // namespace

bool IsUtf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = Next(text, at);
    if (c.value < 0) return false;
    at += c.bytes.size();
  }
  return true;
}

std::string Printable(std::string_view text) {
  std::string shown;
  shown.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = Next(text, at);
    if (c.value < 0) {
      shown += kReplacement;
    } else if (c.value != '\n' && c.value != '\t' && Steers(c.value)) {
      shown += '?';
    } else {
      shown += c.bytes;
    }
    at += c.bytes.size();
  }
  return shown;
}

std::string OneLine(std::string_view text) {
  std::string line;
  bool gap = false;
  for (const char c : Printable(text)) {
    if (c == '\n' || c == '\t' || c == ' ') {
      gap = !line.empty();
      continue;
    }
    if (gap) line += ' ';
    gap = false;
    line += c;
  }
  return line;
}

std::string Quoted(std::string_view text) {
  std::string shown = "\"";
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = Next(text, at);
    at += c.bytes.size();
    if (c.value == '\n') {
      shown += "\\n";
    } else if (c.value == '\t') {
      shown += "\\t";
    } else if (c.value < 0 || Steers(c.value)) {
      for (const char byte : c.bytes) {
        shown += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
      }
    } else {
      if (c.value == '"' || c.value == '\\') shown += '\\';
      shown += c.bytes;
    }
  }
  return shown + "\"";
}

int Columns(std::string_view text) { return Sum(GlyphsOf(text)); }

std::string Fit(std::string_view line, int columns) {
  const std::vector<Glyph> glyphs = GlyphsOf(line);
  if (Sum(glyphs) <= columns) return std::string(line);
  const bool mark = columns > static_cast<int>(kEllipsis.size());
  int room = mark ? columns - static_cast<int>(kEllipsis.size()) : columns;
  size_t end = 0;
  for (const Glyph& glyph : glyphs) {
    if (glyph.columns > room) break;
    room -= glyph.columns;
    end = glyph.end;
  }
  return std::string(line.substr(0, end)) + std::string(mark ? kEllipsis : "");
}

std::string FitEnd(std::string_view line, int columns) {
  const std::vector<Glyph> glyphs = GlyphsOf(line);
  if (Sum(glyphs) <= columns) return std::string(line);
  const bool mark = columns > static_cast<int>(kEllipsis.size());
  int room = mark ? columns - static_cast<int>(kEllipsis.size()) : columns;
  size_t begin = line.size();
  for (auto glyph = glyphs.rbegin(); glyph != glyphs.rend() && glyph->columns <= room; ++glyph) {
    room -= glyph->columns;
    begin = glyph->begin;
  }
  return std::string(mark ? kEllipsis : "") + std::string(line.substr(begin));
}

std::vector<std::string> Wrap(std::string_view text, int columns) {
  std::vector<std::string> lines;
  std::string plain = Printable(text);
  std::replace(plain.begin(), plain.end(), '\t', ' ');
  for (size_t begin = 0; begin <= plain.size();) {
    const size_t end = std::min(plain.find('\n', begin), plain.size());
    WrapLine(std::string_view(plain).substr(begin, end - begin), std::max(columns, 2), lines);
    begin = end + 1;
  }
  return lines;
}

}  // namespace conclave::cli
