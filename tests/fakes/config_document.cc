#include "tests/fakes/config_document.h"

#include <fstream>
#include <iterator>
#include <regex>

namespace conclave {
namespace {

std::string ReadText(const std::string& path) {
  std::ifstream file(CONCLAVE_SOURCE_DIR "/" + path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

}  // namespace

std::vector<std::string> KeysWithoutALine(const std::string& source, const std::string& document) {
  const std::string code = ReadText(source), text = ReadText(document);
  const std::regex read(
      R"re((?:Read|ReadChoice|ReadChoice<std::string>|Section|Items)\(\s*"(\w+)")re");
  std::vector<std::string> missing;
  if (code.empty() || text.empty()) missing.push_back("no such file");
  for (std::sregex_iterator at(code.begin(), code.end(), read), end; at != end; ++at) {
    const std::string key = (*at)[1];
    if (!std::regex_search(text, std::regex("(^|\n)[ #-]*" + key + ":"))) missing.push_back(key);
  }
  return missing;
}

}  // namespace conclave
