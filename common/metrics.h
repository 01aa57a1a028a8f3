#pragma once

#include <absl/status/statusor.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/metric_list.h"

namespace prometheus {
class Counter;
class Gauge;
class Histogram;
}  // namespace prometheus

namespace conclave {

using MetricLabels = std::map<std::string, std::string>;

// One series each. Cheap to copy, thread-safe; the Metrics that made them must outlive them. A
// default one counts nothing.
class Counter {
 public:
  Counter() = default;
  void Add(double amount = 1);  // At least 0.
  double value() const;

 private:
  friend class Metrics;
  explicit Counter(prometheus::Counter* series) : series_(series) {}
  prometheus::Counter* series_ = nullptr;
};

class Gauge {
 public:
  Gauge() = default;
  void Set(double value);
  void Add(double amount);
  double value() const;

 private:
  friend class Metrics;
  explicit Gauge(prometheus::Gauge* series) : series_(series) {}
  prometheus::Gauge* series_ = nullptr;
};

class Histogram {
 public:
  Histogram() = default;
  void Observe(double value);

 private:
  friend class Metrics;
  explicit Histogram(prometheus::Histogram* series) : series_(series) {}
  prometheus::Histogram* series_ = nullptr;
};

// All numbers of a program, and the page on which Prometheus reads them. A metric is made by its
// name in the list, with that kind and those labels: anything else is a bug. The same name with the
// same labels gives the same series. What the list gives an alias stands on the page under both
// names; the process's own numbers always do. Thread-safe.
class Metrics {
 public:
  // `list` must outlive it.
  explicit Metrics(const std::vector<MetricSpec>& list = MetricList());
  ~Metrics();

  Counter AddCounter(const std::string& name, const MetricLabels& labels = {});
  Gauge AddGauge(const std::string& name, const MetricLabels& labels = {});
  Histogram AddHistogram(const std::string& name, const MetricLabels& labels = {});
  // Takes an Add back. The series leaves the page with the last one; nobody may use it after that.
  void Remove(Counter series);
  void Remove(Gauge series);

  // What a series carries under its alias besides its own labels. Before Serve.
  void SetAliasLabels(MetricLabels labels);

  // Serves http://address/metrics until destruction. "127.0.0.1:0" takes any port. Returns the
  // port; kUnavailable when the address can't be bound. Once.
  absl::StatusOr<int> Serve(const std::string& address);

  // What the page says now.
  std::string Text() const;

 private:
  class Page;
  struct State;

  const MetricSpec& Listed(const std::string& name, MetricKind kind,
                           const MetricLabels& labels) const;

  std::unique_ptr<State> state_;
};

}  // namespace conclave
