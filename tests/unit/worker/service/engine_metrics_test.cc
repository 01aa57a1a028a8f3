#include "worker/service/engine_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace conclave::worker {
namespace {

using testing::HasSubstr;

TEST(EngineMetricsTest, CountersFollowTheEnginesFromUpdateToUpdate) {
  Metrics page;
  EngineMetrics metrics(page, /*epoch=*/1);
  EngineLoad load;
  load.tokens_sampled = 100;
  load.preemptions = 2;
  load.evictions = 5;
  load.overrun = 7;
  metrics.Update(load, 0, true);
  load.evictions = 6;
  load.overrun = 11;

  metrics.Update(load, 0, true);

  const std::string text = page.Text();
  EXPECT_THAT(text, HasSubstr("\nconclave_worker_tokens_sampled_total 100"));
  EXPECT_THAT(text, HasSubstr("\nconclave_worker_preemptions_total 2"));
  EXPECT_THAT(text, HasSubstr("\nconclave_worker_evicted_blocks_total 6"));
  EXPECT_THAT(text, HasSubstr("\nconclave_worker_overrun_tokens_total 11"));
}

}  // namespace
}  // namespace conclave::worker
