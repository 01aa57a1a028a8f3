#pragma once

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

// Real inputs that lie beside the repository. Tests that miss them skip, visibly.
namespace conclave::worker {

inline const std::string kFixtures = CONCLAVE_SOURCE_DIR "/../shared/fixtures/";

inline std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

inline bool Missing(const std::string& path) { return !std::ifstream(path).good(); }

#define SKIP_UNLESS_THERE(path) \
  if (Missing(path)) GTEST_SKIP() << path << " is not there"

// The hard texts of tokenizers/vectors/*.inp.
inline std::vector<std::string> SplitTexts(const std::string& all) {
  const std::string separator = "\n__ggml_vocab_test__\n";
  std::vector<std::string> texts;
  for (size_t at = 0; at <= all.size();) {
    const size_t end = std::min(all.find(separator, at), all.size());
    texts.push_back(all.substr(at, end - at));
    at = end + separator.size();
  }
  return texts;
}

}  // namespace conclave::worker
