#include "common/metric_list.h"

#include <gtest/gtest.h>

#include <fstream>
#include <regex>
#include <set>
#include <sstream>

namespace conclave {
namespace {

TEST(MetricListTest, TheDocumentSaysWhatTheListSays) {
  const std::string path = CONCLAVE_SOURCE_DIR "/deploy/prometheus/metrics.md";
  std::ifstream file(path);
  std::stringstream document;
  document << file.rdbuf();
  const std::string text = document.str();
  const size_t begin = text.find("| name |");
  const std::string table = begin == std::string::npos ? "" : text.substr(begin);

  EXPECT_TRUE(table == MetricTable(MetricList()))
      << path << " is not the list of metric_list.cc; from \"| name |\" on it should say:\n"
      << MetricTable(MetricList());
}

TEST(MetricListTest, NamesFollowPrometheusAndAreThereOnce) {
  const std::regex form("(conclave|process)_[a-z]+(_[a-z]+)*"), alias_form("vllm:[a-z]+(_[a-z]+)*");
  std::set<std::string> names;
  for (const MetricSpec& spec : MetricList()) {
    EXPECT_TRUE(names.insert(spec.name).second) << spec.name;
    EXPECT_TRUE(std::regex_match(spec.name, form)) << spec.name;
    EXPECT_TRUE(spec.alias.empty() || std::regex_match(spec.alias, alias_form)) << spec.alias;
    EXPECT_TRUE(spec.alias.empty() || names.insert(spec.alias).second) << spec.alias;
    EXPECT_EQ(spec.name.ends_with("_total"), spec.kind == MetricKind::kCounter) << spec.name;
    EXPECT_EQ(!spec.bounds.empty(), spec.kind == MetricKind::kHistogram) << spec.name;
    EXPECT_TRUE(spec.help.ends_with('.')) << spec.name;
  }
}

TEST(MetricListTest, WhatInferenceGatewaysReadIsThereAsGauges) {
  std::set<std::string> gauges;
  for (const MetricSpec& spec : MetricList()) {
    if (spec.kind == MetricKind::kGauge) gauges.insert(spec.alias);
  }

  // The three of the Gateway API Inference Extension's model server protocol, and its optional one.
  for (const char* name : {"vllm:num_requests_waiting", "vllm:num_requests_running",
                           "vllm:kv_cache_usage_perc", "vllm:cache_config_info"}) {
    EXPECT_TRUE(gauges.contains(name)) << name;
  }
}

}  // namespace
}  // namespace conclave
