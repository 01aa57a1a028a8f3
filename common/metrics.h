#pragma once

#include <absl/status/statusor.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

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

// All numbers of a program, and the page on which Prometheus reads them. Names follow Prometheus:
// conclave_, a unit, _total for counters. Thread-safe. The same name with the same labels gives the
// same series; a name has one kind and one help.
class Metrics {
 public:
  Metrics();
  ~Metrics();

  Counter AddCounter(const std::string& name, const std::string& help,
                     const MetricLabels& labels = {});
  Gauge AddGauge(const std::string& name, const std::string& help, const MetricLabels& labels = {});
  // `bounds`: upper ends of the buckets, rising.
  Histogram AddHistogram(const std::string& name, const std::string& help,
                         const std::vector<double>& bounds, const MetricLabels& labels = {});

  // Serves http://address/metrics until destruction. "127.0.0.1:0" takes any port. Returns the
  // port; kUnavailable when the address can't be bound. Once.
  absl::StatusOr<int> Serve(const std::string& address);

  // What the page says now.
  std::string Text() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Bounds for durations in seconds, 1 ms to 10 minutes.
std::vector<double> DurationBounds();

}  // namespace conclave
