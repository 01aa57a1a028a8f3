#include "common/plain_text.h"

#include <fmt/format.h>

namespace conclave {

std::string PlainText(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
    const bool kept = byte == '\n' || byte == '\t';
    if ((byte < 0x20 && !kept) || byte == 0x7f) {
      plain += fmt::format("\\x{:02x}", byte);
    } else if (byte == 0xc2 && next >= 0x80 && next < 0xa0) {  // U+0080 to U+009F.
      plain += fmt::format("\\x{:02x}", next);
      ++i;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

}  // namespace conclave
