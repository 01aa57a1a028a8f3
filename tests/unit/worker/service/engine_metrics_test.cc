#include "worker/service/engine_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace conclave::worker {
namespace {

using testing::HasSubstr;

const MeasuredGroup kGroup = {
    .model = "demo", .fingerprint = "f00d", .ranks = 2, .epoch = 4, .losses = 2};

TEST(EngineMetricsTest, CountersFollowTheEnginesFromUpdateToUpdate) {
  Metrics page;
  EngineMetrics metrics(page, kGroup);
  EngineLoad load;
  load.tokens_sampled = 100;
  load.tokens_forced = 12;
  load.preemptions = 2;
  load.evictions = 5;
  load.overrun = 7;
  metrics.Update(load, 0, true);
  load.evictions = 6;
  load.probes_answered = 3;
  load.probes_dropped = 1;
  load.probe_tokens = 95;
  load.overrun = 11;

  metrics.Update(load, 0, true);

  const std::string text = page.Text();
  EXPECT_THAT(text, HasSubstr("\nconclave_worker_tokens_sampled_total 100"));
  EXPECT_THAT(text, HasSubstr("\nconclave_worker_tokens_forced_total 12"));
  EXPECT_THAT(text, HasSubstr("\nconclave_worker_preemptions_total 2"));
  EXPECT_THAT(text, HasSubstr("\nconclave_worker_evicted_blocks_total 6"));
  EXPECT_THAT(text, HasSubstr("\nconclave_worker_overrun_tokens_total 11"));
  EXPECT_THAT(text, HasSubstr("\nconclave_worker_probes_total{end=\"answered\"} 3"));
  EXPECT_THAT(text, HasSubstr("\nconclave_worker_probes_total{end=\"dropped\"} 1"));
  EXPECT_THAT(text, HasSubstr("\nconclave_worker_probe_tokens_total 95"));
}

TEST(EngineMetricsTest, TheGaugesOfInferenceGatewaysSayWhoRunsWhoWaitsAndHowFullItIs) {
  Metrics page;
  EngineMetrics metrics(page, kGroup);
  EngineLoad load;
  load.agents_running = 7;
  load.agents_waiting = 3;
  load.blocks_total = 64;
  load.blocks_free = 48;

  metrics.Update(load, 0, true);

  const std::string text = page.Text(), labels = "{engine=\"0\",model_name=\"demo\"} ";
  EXPECT_THAT(text, HasSubstr("\nvllm:num_requests_running" + labels + "4\n"));
  EXPECT_THAT(text, HasSubstr("\nvllm:num_requests_waiting" + labels + "3\n"));
  EXPECT_THAT(text, HasSubstr("\nvllm:kv_cache_usage_perc" + labels + "0.25\n"));
  EXPECT_THAT(text, HasSubstr("\nvllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"64\","));
}

TEST(EngineMetricsTest, AnEpochThatFollowedADrainIsNoLoss) {
  Metrics page;
  const EngineMetrics metrics(page, kGroup);

  EXPECT_THAT(page.Text(), HasSubstr("\nconclave_worker_epoch 4\n"));
  EXPECT_THAT(page.Text(), HasSubstr("\nconclave_worker_losses_total 2\n"));
  EXPECT_THAT(page.Text(),
              HasSubstr("conclave_worker_info{fingerprint=\"f00d\",model=\"demo\",ranks=\"2\"} 1"));
}

}  // namespace
}  // namespace conclave::worker
