#include "tests/fuzz/mutate.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>

namespace conclave {
namespace {

uint64_t Number(const char* name, uint64_t otherwise) {
  const char* given = std::getenv(name);
  return given == nullptr ? otherwise : std::strtoull(given, nullptr, 10);
}

}  // namespace

int Rounds(int usual) {
  return usual * static_cast<int>(std::clamp<uint64_t>(Number("CONCLAVE_FUZZ", 1), 1, 10'000));
}

uint64_t SeedOf(int round) {
  return (Number("CONCLAVE_FUZZ_SEED", 0) << 32) + static_cast<uint64_t>(round);
}

size_t Below(Random& random, size_t n) { return n == 0 ? 0 : random() % n; }

void Mutate(Random& random, const std::vector<std::string>& words, std::string& text) {
  const size_t at = Below(random, text.size() + 1);
  const size_t length = Below(random, std::min<size_t>(text.size() - at, 24) + 1);
  switch (Below(random, 7)) {
    case 0:
      text.resize(at);
      break;
    case 1:
      text.erase(at, length);
      break;
    case 2:
      text.insert(at, text.substr(at, length));
      break;
    case 3:
      if (at < text.size()) text[at] = static_cast<char>(random() % 128);
      break;
    case 4:
      if (at < text.size()) text[at] = static_cast<char>(random());
      break;
    case 5:
      text.insert(at, text.substr(Below(random, text.size()), Below(random, 64)));
      break;
    default:
      text.insert(at, words[Below(random, words.size())]);
  }
}

nlohmann::json& AnyNode(Random& random, nlohmann::json& root) {
  nlohmann::json* node = &root;
  while (node->is_structured() && !node->empty() && random() % 12 != 0) {
    auto child = node->begin();
    std::advance(child, static_cast<long>(Below(random, node->size())));
    node = &*child;
  }
  return *node;
}

}  // namespace conclave
