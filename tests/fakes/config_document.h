#pragma once

#include <string>
#include <vector>

namespace conclave {

// Keys that the code of a config reader asks for (the words in Read("..."), Section("...") and the
// like of a source file) and that no line of the YAML document mentions, commented ones included.
// `paths` are below the project's root.
std::vector<std::string> KeysWithoutALine(const std::string& source, const std::string& document);

}  // namespace conclave
