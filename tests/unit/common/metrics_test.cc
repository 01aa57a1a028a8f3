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

TEST(MetricsTest, ACounterShowsWithHelpAndLabels) {
  Metrics metrics;

  metrics.AddCounter("conclave_x_total", "How many x", {{"mode", "fast"}}).Add(3);

  EXPECT_TRUE(Contains(metrics.Text(), "# HELP conclave_x_total How many x\n"));
  EXPECT_TRUE(Contains(metrics.Text(), "conclave_x_total{mode=\"fast\"} 3\n"));
}

TEST(MetricsTest, TheSameNameAndLabelsAreOneSeries) {
  Metrics metrics;
  Counter first = metrics.AddCounter("conclave_x_total", "How many x");
  Counter second = metrics.AddCounter("conclave_x_total", "How many x");

  first.Add();
  second.Add();

  EXPECT_EQ(first.value(), 2);
}

TEST(MetricsTest, AGaugeGoesUpAndDown) {
  Metrics metrics;
  Gauge gauge = metrics.AddGauge("conclave_y", "y");

  gauge.Set(5);
  gauge.Add(-2);

  EXPECT_EQ(gauge.value(), 3);
}

TEST(MetricsTest, AHistogramCountsInBuckets) {
  Metrics metrics;
  Histogram histogram = metrics.AddHistogram("conclave_z_seconds", "z", {1, 10});

  histogram.Observe(0.5);
  histogram.Observe(5);

  EXPECT_TRUE(Contains(metrics.Text(), "conclave_z_seconds_bucket{le=\"1\"} 1\n"));
  EXPECT_TRUE(Contains(metrics.Text(), "conclave_z_seconds_bucket{le=\"10\"} 2\n"));
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
  Metrics metrics;
  metrics.AddCounter("conclave_x_total", "How many x").Add();

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
