#pragma once

#include <string>
#include <string_view>

namespace conclave {

// `text` without what steers a terminal: control characters but line breaks and tabs are written as
// "\x1b". For what is shown to a person and holds words of a file or a peer.
std::string PlainText(std::string_view text);

}  // namespace conclave
