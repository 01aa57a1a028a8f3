#pragma once

#include <cstdlib>
#include <string>

namespace conclave {

// Where models and expected outputs are: the source folder, or, of tests that are carried to
// another machine, what CONCLAVE_SOURCE_DIR says there.
inline std::string SourceFolder() {
  const char* told = std::getenv("CONCLAVE_SOURCE_DIR");
  return told != nullptr ? told : CONCLAVE_SOURCE_DIR;
}

}  // namespace conclave
