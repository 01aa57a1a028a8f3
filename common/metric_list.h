#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace conclave {

enum class MetricKind : uint8_t { kCounter, kGauge, kHistogram };

// One metric, as operators know it: its name is as much a promise as a field of the API.
struct MetricSpec {
  std::string name;
  MetricKind kind = MetricKind::kGauge;
  std::string from;  // The program, and who in it counts.
  std::string help;
  std::vector<std::string> labels = {};
  std::vector<double> bounds = {};  // Of a histogram: upper ends of the buckets, rising.
  std::string alias = {};           // A name under which others look for the same number; or none.
};

// Every metric of every program: the one place that names them. deploy/prometheus/metrics.md says
// the same to people.
const std::vector<MetricSpec>& MetricList();

// The list as a table in Markdown: what deploy/prometheus/metrics.md holds.
std::string MetricTable(const std::vector<MetricSpec>& list);

}  // namespace conclave
