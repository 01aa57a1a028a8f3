#include "tests/bench/table.h"

#include <algorithm>
#include <cstddef>
#include <cstdio>

namespace conclave::bench {
namespace {

// Three digits that count.
std::string Digits(double value) {
  char text[32];
  const int decimals = value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3;
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return text;
}

}  // namespace

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void PrintHead() {
  std::printf("| %-52s | %9s | %9s | %5s | %-8s | %s |\n", "what", "achieved", "ceiling", "%",
              "unit", "the ceiling is");
  std::printf("|%s|%s|%s|%s|%s|%s|\n", std::string(54, '-').c_str(), std::string(11, '-').c_str(),
              std::string(11, '-').c_str(), std::string(7, '-').c_str(),
              std::string(10, '-').c_str(), std::string(16, '-').c_str());
}

void Print(const Row& row) {
  const double share = row.less_is_better ? row.ceiling / row.achieved : row.achieved / row.ceiling;
  std::printf("| %-52s | %9s | %9s | %5.1f | %-8s | %s |\n", row.what.c_str(),
              Digits(row.achieved).c_str(), Digits(row.ceiling).c_str(), 100 * share,
              row.unit.c_str(), row.bound.c_str());
  std::fflush(stdout);
}

}  // namespace conclave::bench
