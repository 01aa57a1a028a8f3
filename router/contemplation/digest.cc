#include "router/contemplation/digest.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/answer/normalise.h"
#include "common/check.h"
#include "common/philox.h"

namespace conclave::router {
namespace {

constexpr size_t kMostPartBytes = 4096;

bool ContinuesACharacter(char c) { return (static_cast<unsigned char>(c) & 0xc0u) == 0x80u; }

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Bytes of the mark with which a list's line begins, space included; 0 without one.
size_t MarkOf(std::string_view line) {
  size_t mark = 0;
  while (mark < line.size() && IsDigit(line[mark])) ++mark;
  const std::string_view signs = mark > 0 ? ".)" : "-*";
  if (mark + 1 >= line.size() || signs.find(line[mark]) == std::string_view::npos) return 0;
  return line[mark + 1] == ' ' ? mark + 2 : 0;
}

}  // namespace

std::vector<std::string> Digest(std::vector<std::string> texts, int bytes) {
  CHECK(bytes >= 0);
  if (texts.empty()) return texts;
  const size_t share = static_cast<size_t>(bytes) / texts.size();
  for (std::string& text : texts) {
    if (text.size() <= share) continue;
    size_t begin = text.size() - share;
    while (begin < text.size() && ContinuesACharacter(text[begin])) ++begin;
    text.erase(0, begin);
  }
  return texts;
}

std::vector<int> DrawDrafts(uint64_t seed, AgentId agent, int count, int drafts) {
  std::vector<int> drawn(static_cast<size_t>(std::max(count, 0)));
  std::iota(drawn.begin(), drawn.end(), 0);
  if (drafts >= count) return drawn;
  std::vector<std::pair<uint32_t, int>> lots;
  for (const int draft : drawn) {
    const auto words = Philox({static_cast<uint32_t>(agent), static_cast<uint32_t>(draft), 0, 1},
                              {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
    lots.emplace_back(words[0], draft);
  }
  std::sort(lots.begin(), lots.end());
  drawn.resize(static_cast<size_t>(std::max(drafts, 0)));
  for (size_t i = 0; i < drawn.size(); ++i) drawn[i] = lots[i].second;
  std::sort(drawn.begin(), drawn.end());
  return drawn;
}

std::vector<std::string> PartsOf(std::string_view answer, int most) {
  std::vector<std::string_view> lines;
  while (!answer.empty()) {
    const size_t end = std::min(answer.find('\n'), answer.size());
    const std::string_view line = TrimSpace(answer.substr(0, end));
    if (line.size() > kMostPartBytes) return {};
    if (!line.empty()) lines.push_back(line);
    if (lines.size() > static_cast<size_t>(std::max(most, 0))) return {};
    answer.remove_prefix(std::min(end + 1, answer.size()));
  }
  if (lines.size() < 2) return {};
  const bool listed = std::all_of(lines.begin(), lines.end(),
                                  [](std::string_view line) { return MarkOf(line) > 0; });
  std::vector<std::string> parts;
  for (const std::string_view line : lines) {
    parts.emplace_back(TrimSpace(line.substr(listed ? MarkOf(line) : 0)));
  }
  return parts;
}

}  // namespace conclave::router
