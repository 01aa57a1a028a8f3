#include "tests/badinput/table.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <regex>

#include "common/plain_text.h"
#include "common/status.h"

namespace conclave {
namespace {

const std::string kFolder = CONCLAVE_SOURCE_DIR "/tests/badinput/";

void ReplaceAll(std::string& text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

// As a cell of a table: one line, and not too long a one.
std::string Cell(std::string text) {
  constexpr size_t kMost = 240;
  text = PlainText(text);
  // Another machine's instruction set has another one.
  text = std::regex_replace(text, std::regex("[0-9a-f]{64}"), "(a fingerprint)");
  ReplaceAll(text, "\n", " / ");
  ReplaceAll(text, "|", "\\|");
  ReplaceAll(text, "<", "\\<");
  if (text.size() > kMost) text = text.substr(0, kMost) + "...";
  return text;
}

std::string LineOf(const BadInput& row) {
  return fmt::format("| {} | {} | {} |", row.kind, row.status, Cell(row.message));
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

// The page that has the section, before its rows, the rows, and behind them.
struct Parts {
  std::string page, before, rows, behind;
};
Parts PartsOf(const std::string& section) {
  std::string page, text;
  size_t heading = std::string::npos;
  for (const char* each : {"README.md", "NETWORK.md"}) {
    page = kFolder + each;
    std::ifstream file(page);
    text.assign(std::istreambuf_iterator<char>(file), {});
    heading = text.find("## " + section + "\n");
    if (heading != std::string::npos) break;
  }
  EXPECT_NE(heading, std::string::npos) << "no page has the section " << section;
  const std::string rule = "|---|---|---|\n";
  const size_t begin = std::min(text.find(rule, heading), text.size() - rule.size()) + rule.size();
  const size_t end = std::min(text.find("\n\n", begin - 1) + 1, text.size());
  return {page, text.substr(0, begin), text.substr(begin, end - begin), text.substr(end)};
}

}  // namespace

BadInput Refused(std::string kind, const absl::Status& status) {
  return {std::move(kind), absl::StatusCodeToString(status.code()), std::string(MessageOf(status))};
}

void ExpectTable(const std::string& section, std::vector<BadInput> rows,
                 const std::vector<std::pair<std::string, std::string>>& names) {
  std::string table;
  for (BadInput& row : rows) {
    for (const auto& [name, shown] : names) ReplaceAll(row.message, name, shown);
    table += LineOf(row) + "\n";
  }
  const Parts parts = PartsOf(section);
  if (std::getenv("CONCLAVE_WRITE_TABLES") != nullptr) {
    std::ofstream(parts.page) << parts.before << table << parts.behind;
    return;
  }
  EXPECT_THAT(Lines(table), testing::ElementsAreArray(Lines(parts.rows)))
      << parts.page << ", section " << section;
}

}  // namespace conclave
