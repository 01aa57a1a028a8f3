#include "common/metrics.h"

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <exception>
#include <functional>
#include <utility>

#include "common/check.h"
#include "common/process_stats.h"
#include "common/status.h"

namespace conclave {
namespace {

constexpr char kBuild[] = "conclave_build_info";

prometheus::MetricType TypeOf(MetricKind kind) {
  return kind == MetricKind::kCounter ? prometheus::MetricType::Counter
         : kind == MetricKind::kGauge ? prometheus::MetricType::Gauge
                                      : prometheus::MetricType::Histogram;
}

prometheus::MetricFamily SingleValue(const MetricSpec& spec, double value) {
  prometheus::MetricFamily family;
  family.name = spec.name;
  family.help = spec.help;
  family.type = TypeOf(spec.kind);
  family.metric.resize(1);
  family.metric[0].counter.value = family.metric[0].gauge.value = value;
  return family;
}

}  // namespace

// What is read: the registry's series, those with an alias once more, and the process's numbers.
class Metrics::Page : public prometheus::Collectable {
 public:
  explicit Page(const std::vector<MetricSpec>& list) {
    for (const MetricSpec& spec : list) by_name_[spec.name] = &spec;
  }

  std::vector<prometheus::MetricFamily> Collect() const override {
    std::vector<prometheus::MetricFamily> families = registry.Collect();
    std::vector<prometheus::MetricFamily> more;
    for (const prometheus::MetricFamily& family : families) {
      const MetricSpec& spec = *by_name_.at(family.name);
      if (spec.alias.empty()) continue;
      more.push_back(family);
      more.back().name = spec.alias;
      for (prometheus::ClientMetric& series : more.back().metric) {
        for (const auto& [name, value] : alias_labels) series.label.push_back({name, value});
      }
    }
    for (const auto& [name, value] : ProcessStats()) {
      if (const MetricSpec* spec = Find(name)) more.push_back(SingleValue(*spec, value));
    }
    families.insert(families.end(), more.begin(), more.end());
    return families;
  }

  const MetricSpec* Find(const std::string& name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : found->second;
  }

  prometheus::Registry registry;
  MetricLabels alias_labels;

 private:
  std::map<std::string, const MetricSpec*> by_name_;
};

struct Metrics::State {
  explicit State(const std::vector<MetricSpec>& list) : page(std::make_shared<Page>(list)) {}

  // How often a series was asked for, and how it leaves.
  struct Use {
    int64_t adds = 0;
    std::function<void()> remove;
  };

  // Gives the family's series and counts the use. REQUIRES: `mutex`.
  template <typename Series, typename Family, typename... Bounds>
  Series* Add(Family& family, const MetricLabels& labels, const Bounds&... bounds) {
    Series* series = &family.Add(labels, bounds...);
    Use& use = uses[series];
    ++use.adds;
    use.remove = [&family, series] { family.Remove(series); };
    return series;
  }
  void Remove(const void* series) {
    absl::MutexLock lock(&mutex);
    const auto use = uses.find(series);
    CHECK(use != uses.end());
    if (--use->second.adds > 0) return;
    use->second.remove();
    uses.erase(use);
  }

  std::shared_ptr<Page> page;  // Shared because the exposer watches it through a weak pointer.
  absl::Mutex mutex;
  std::map<const void*, Use> uses ABSL_GUARDED_BY(mutex);
  std::unique_ptr<prometheus::Exposer> exposer;
};

void Counter::Add(double amount) {
  if (series_ != nullptr) series_->Increment(amount);
}
double Counter::value() const { return series_ == nullptr ? 0 : series_->Value(); }

void Gauge::Set(double value) {
  if (series_ != nullptr) series_->Set(value);
}
void Gauge::Add(double amount) {
  if (series_ != nullptr) series_->Increment(amount);
}
double Gauge::value() const { return series_ == nullptr ? 0 : series_->Value(); }

void Histogram::Observe(double value) {
  if (series_ != nullptr) series_->Observe(value);
}

Metrics::Metrics(const std::vector<MetricSpec>& list) : state_(std::make_unique<State>(list)) {
  if (state_->page->Find(kBuild) == nullptr) return;
  AddGauge(kBuild, {{"version", CONCLAVE_VERSION}}).Set(1);
}
Metrics::~Metrics() = default;

const MetricSpec& Metrics::Listed(const std::string& name, MetricKind kind,
                                  const MetricLabels& labels) const {
  const MetricSpec* spec = state_->page->Find(name);
  CHECK(spec != nullptr && spec->kind == kind && spec->labels.size() == labels.size());
  for (const std::string& label : spec->labels) CHECK(labels.contains(label));
  return *spec;
}

Counter Metrics::AddCounter(const std::string& name, const MetricLabels& labels) {
  const MetricSpec& spec = Listed(name, MetricKind::kCounter, labels);
  absl::MutexLock lock(&state_->mutex);
  auto& family =
      prometheus::BuildCounter().Name(name).Help(spec.help).Register(state_->page->registry);
  return Counter(state_->Add<prometheus::Counter>(family, labels));
}

Gauge Metrics::AddGauge(const std::string& name, const MetricLabels& labels) {
  const MetricSpec& spec = Listed(name, MetricKind::kGauge, labels);
  absl::MutexLock lock(&state_->mutex);
  auto& family =
      prometheus::BuildGauge().Name(name).Help(spec.help).Register(state_->page->registry);
  return Gauge(state_->Add<prometheus::Gauge>(family, labels));
}

Histogram Metrics::AddHistogram(const std::string& name, const MetricLabels& labels) {
  const MetricSpec& spec = Listed(name, MetricKind::kHistogram, labels);
  absl::MutexLock lock(&state_->mutex);
  auto& family =
      prometheus::BuildHistogram().Name(name).Help(spec.help).Register(state_->page->registry);
  return Histogram(state_->Add<prometheus::Histogram>(family, labels, spec.bounds));
}

void Metrics::Remove(Counter series) { state_->Remove(series.series_); }
void Metrics::Remove(Gauge series) { state_->Remove(series.series_); }

void Metrics::SetAliasLabels(MetricLabels labels) {
  CHECK(state_->exposer == nullptr);
  state_->page->alias_labels = std::move(labels);
}

absl::StatusOr<int> Metrics::Serve(const std::string& address) {
  CHECK(state_->exposer == nullptr);
  try {
    // An idle connection holds a thread until it times out.
    auto exposer = std::make_unique<prometheus::Exposer>(
        std::vector<std::string>{"listening_ports", address, "num_threads", "8",
                                 "request_timeout_ms", "2000", "keep_alive_timeout_ms", "500"});
    exposer->RegisterCollectable(state_->page);
    const std::vector<int> ports = exposer->GetListeningPorts();
    if (ports.empty()) return Unavailable("metrics: {} gave no port", address);
    state_->exposer = std::move(exposer);
    return ports.front();
  } catch (const std::exception& error) {
    return Unavailable("metrics: {} cannot be bound: {}", address, error.what());
  }
}

std::string Metrics::Text() const {
  return prometheus::TextSerializer().Serialize(state_->page->Collect());
}

}  // namespace conclave
