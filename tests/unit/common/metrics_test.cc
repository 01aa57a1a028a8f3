#include "common/metrics.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

namespace conclave {
namespace {

// What an HTTP server on loopback answers to a GET.
std::string Get(int port, const std::string& path) {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string answer;
  if (connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    const std::string request = "GET " + path + " HTTP/1.0\r\n\r\n";
    if (write(socket, request.data(), request.size()) > 0) {
      char buffer[4096];
      for (ssize_t n = 0; (n = read(socket, buffer, sizeof(buffer))) > 0;) {
        answer.append(buffer, static_cast<size_t>(n));
      }
    }
  }
  close(socket);
  return answer;
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

const std::vector<MetricSpec>& List() {
  static const std::vector<MetricSpec> list = {
      {"conclave_x_total", MetricKind::kCounter, "test", "How many x"},
      {"conclave_modes_total", MetricKind::kCounter, "test", "By mode", {"mode"}},
      {"conclave_y", MetricKind::kGauge, "test", "y", {}, {}, "other:y"},
      {"conclave_z_seconds", MetricKind::kHistogram, "test", "z", {}, {1, 10}, "other:z_seconds"},
      {"process_open_fds", MetricKind::kGauge, "test", "Open files"},
      {"process_resident_memory_bytes", MetricKind::kGauge, "test", "Memory"},
  };
  return list;
}

TEST(MetricsTest, ACounterShowsWithHelpAndLabels) {
  Metrics metrics(List());

  metrics.AddCounter("conclave_modes_total", {{"mode", "fast"}}).Add(3);

  EXPECT_TRUE(Contains(metrics.Text(), "# HELP conclave_modes_total By mode\n"));
  EXPECT_TRUE(Contains(metrics.Text(), "conclave_modes_total{mode=\"fast\"} 3\n"));
}

TEST(MetricsTest, TheSameNameAndLabelsAreOneSeries) {
  Metrics metrics(List());
  Counter first = metrics.AddCounter("conclave_x_total");
  Counter second = metrics.AddCounter("conclave_x_total");

  first.Add();
  second.Add();

  EXPECT_EQ(first.value(), 2);
}

TEST(MetricsTest, AGaugeGoesUpAndDown) {
  Metrics metrics(List());
  Gauge gauge = metrics.AddGauge("conclave_y");

  gauge.Set(5);
  gauge.Add(-2);

  EXPECT_EQ(gauge.value(), 3);
}

TEST(MetricsTest, AHistogramCountsInTheListsBuckets) {
  Metrics metrics(List());
  Histogram histogram = metrics.AddHistogram("conclave_z_seconds");

  histogram.Observe(0.5);
  histogram.Observe(5);

  EXPECT_TRUE(Contains(metrics.Text(), "conclave_z_seconds_bucket{le=\"1\"} 1\n"));
  EXPECT_TRUE(Contains(metrics.Text(), "conclave_z_seconds_bucket{le=\"10\"} 2\n"));
}

TEST(MetricsTest, AnAliasSaysTheSameUnderItsOwnNameAndLabels) {
  Metrics metrics(List());
  metrics.SetAliasLabels({{"model_name", "demo"}});

  metrics.AddGauge("conclave_y").Set(7);
  metrics.AddHistogram("conclave_z_seconds").Observe(5);

  const std::string text = metrics.Text();
  EXPECT_TRUE(Contains(text, "\nconclave_y 7\n"));
  EXPECT_TRUE(Contains(text, "# TYPE other:y gauge\nother:y{model_name=\"demo\"} 7\n"));
  EXPECT_TRUE(Contains(text, "other:z_seconds_bucket{model_name=\"demo\",le=\"10\"} 1\n"));
}

TEST(MetricsTest, ASeriesLeavesThePageWithItsLastUser) {
  Metrics metrics(List());
  const Counter first = metrics.AddCounter("conclave_modes_total", {{"mode", "fast"}});
  const Counter second = metrics.AddCounter("conclave_modes_total", {{"mode", "fast"}});

  metrics.Remove(first);
  EXPECT_TRUE(Contains(metrics.Text(), "conclave_modes_total{mode=\"fast\"} 0\n"));

  metrics.Remove(second);
  EXPECT_FALSE(Contains(metrics.Text(), "conclave_modes_total"));
}

TEST(MetricsTest, TheProcesssOwnNumbersAreOnThePage) {
  const Metrics metrics(List());

  const std::string text = metrics.Text();

  EXPECT_TRUE(Contains(text, "# TYPE process_open_fds gauge\nprocess_open_fds "));
  EXPECT_TRUE(Contains(text, "\nprocess_resident_memory_bytes "));
  EXPECT_FALSE(Contains(text, "process_max_fds")) << "the list has it not";
}

using MetricsDeathTest = testing::Test;

TEST(MetricsDeathTest, WhatTheListDoesNotHoldIsABug) {
  Metrics metrics(List());

  EXPECT_DEATH(metrics.AddCounter("conclave_new_total"), "check failed");
  EXPECT_DEATH(metrics.AddGauge("conclave_x_total"), "check failed");
  EXPECT_DEATH(metrics.AddCounter("conclave_modes_total", {{"tenant", "acme"}}), "check failed");
  EXPECT_DEATH(metrics.AddCounter("conclave_modes_total"), "check failed");
}

TEST(MetricsTest, ASeriesThatNobodyMadeCountsNothing) {
  Counter counter;
  Gauge gauge;
  Histogram histogram;

  counter.Add();
  gauge.Set(1);
  histogram.Observe(1);

  EXPECT_EQ(counter.value(), 0);
  EXPECT_EQ(gauge.value(), 0);
}

TEST(MetricsTest, ThePageIsServedOnAnyFreePort) {
  Metrics metrics(List());
  metrics.AddCounter("conclave_x_total").Add();

  const auto port = metrics.Serve("127.0.0.1:0");

  ASSERT_TRUE(port.ok()) << port.status();
  EXPECT_GT(*port, 0);
  EXPECT_TRUE(Contains(Get(*port, "/metrics"), "conclave_x_total 1\n"));
}

TEST(MetricsTest, AnAddressThatIsTakenIsUnavailable) {
  Metrics first, second;
  const auto port = first.Serve("127.0.0.1:0");
  ASSERT_TRUE(port.ok());

  EXPECT_EQ(second.Serve("127.0.0.1:" + std::to_string(*port)).status().code(),
            absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace conclave
