#include "worker/service/timed_sink.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/fakes/recording_sink.h"

namespace conclave::worker {
namespace {

using testing::HasSubstr;

constexpr AgentId kFirst{0}, kSecond{1};

TEST(TimedSinkTest, TheTimesBetweenAnAgentsTokensAreItsOwn) {
  Metrics page;
  auto owned = std::make_unique<FakeClock>();
  FakeClock& clock = *owned;
  TimedSink sink(std::make_shared<RecordingSink>(), std::move(owned),
                 page.AddHistogram("conclave_worker_inter_token_seconds"));
  sink.OnAccepted({kFirst, kSecond});
  sink.OnTokens(kFirst, 0, {TokenEvent{}}, std::nullopt);
  clock.Advance(absl::Seconds(1));
  sink.OnTokens(kSecond, 0, {TokenEvent{}}, std::nullopt);
  clock.Advance(absl::Seconds(2));

  sink.OnTokens(kFirst, 1, {TokenEvent{}}, AgentEnd{.sampled = 2});
  sink.OnTokens(kSecond, 1, {TokenEvent{}}, AgentEnd{.sampled = 2});

  EXPECT_THAT(page.Text(), HasSubstr("\nconclave_worker_inter_token_seconds_count 2\n"));
  EXPECT_THAT(page.Text(), HasSubstr("\nconclave_worker_inter_token_seconds_sum 5\n"));
}

TEST(TimedSinkTest, EverythingIsPassedOn) {
  const auto behind = std::make_shared<RecordingSink>();
  TimedSink sink(behind, std::make_unique<FakeClock>(), Histogram());

  sink.OnAccepted({kFirst});
  sink.OnProbe(kFirst, 0, {TokenEvent{}});
  sink.OnTokens(kFirst, 0, {TokenEvent{}}, AgentEnd{.sampled = 1});
  sink.OnRefused({kSecond}, absl::ResourceExhaustedError("full"), 1);
  sink.OnFamilyEnd({});

  EXPECT_TRUE(behind->accepted(kFirst));
  EXPECT_EQ(behind->count(kFirst), 1);
  EXPECT_EQ(behind->probes(kFirst).size(), 1u);
  EXPECT_TRUE(behind->end(kFirst).has_value());
  EXPECT_EQ(behind->refusals().size(), 1u);
  EXPECT_TRUE(behind->counters().has_value());
}

}  // namespace
}  // namespace conclave::worker
