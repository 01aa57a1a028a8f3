#include "cli/rate_meter.h"

#include <gtest/gtest.h>

namespace conclave::cli {
namespace {

TEST(RateMeterTest, OneMomentHasNoRate) {
  RateMeter meter;
  EXPECT_EQ(meter.PerSecond(), 0);
  meter.Add(1, 100);
  EXPECT_EQ(meter.PerSecond(), 0);
}

TEST(RateMeterTest, OnlyTheLastTwoSecondsCount) {
  RateMeter meter;
  for (int i = 0; i <= 40; ++i) meter.Add(0.1 * i, i < 20 ? 0 : 10 * (i - 20));

  EXPECT_NEAR(meter.PerSecond(), 100, 1);
}

TEST(RateMeterTest, AStandstillIsSeen) {
  RateMeter meter;
  meter.Add(0, 0);
  meter.Add(1, 500);
  for (int i = 0; i < 30; ++i) meter.Add(1 + 0.1 * (i + 1), 500);

  EXPECT_EQ(meter.PerSecond(), 0);
}

}  // namespace
}  // namespace conclave::cli
