// The bench program, with sizes that mean nothing: that it runs to its end and prints its rows.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tests/integration/program.h"

namespace conclave {
namespace {

using testing::HasSubstr;

TEST(BenchTest, EveryRowStandsBesideItsCeiling) {
  const std::string folder = FreshFolder();
  Program bench("conclave_bench", {"--quick"}, folder + "/bench.log");

  ASSERT_EQ(bench.Wait(absl::Seconds(200)), 0) << bench.Output();

  const std::string output = bench.Output();
  EXPECT_THAT(output, HasSubstr(" achieved |   ceiling |"));
  for (const char* row :
       {"| decode, demo, 1 ranks, 1 agents, 1 in flight", "| decode, demo, 2 ranks, 16 agents, 2",
        "| decode, 135M, 1 agents, drawn", "| decode, 135M, 16 agents, drawn",
        "| decode, 135M, 8 agents, greedy", "| prefill, 135M, ", "| shared prompt, 135M, 8 agents",
        "| first event, 8 agents, 1 in flight", "| first answer, 1 agent, 2 in flight",
        "| whole answer, 8 agents, 2 in flight", "| router's CPU a token, 8 agents, 1 in flight",
        "two plans in flight, demo, 2 ranks, 8 agents: "}) {
    EXPECT_THAT(output, HasSubstr(row));
  }
  EXPECT_EQ(output.find("nan"), std::string::npos) << output;
  EXPECT_EQ(output.find("inf "), std::string::npos) << output;
  std::filesystem::remove_all(folder);
}

TEST(CollectiveBenchTest, EveryRowStandsBesideItsLeast) {
  const std::string folder = FreshFolder();
  Program bench("collective_bench", {"--quick"}, folder + "/bench.log");

  ASSERT_EQ(bench.Wait(absl::Seconds(200)), 0) << bench.Output();

  const std::string output = bench.Output();
  for (const char* row :
       {"| sum of 4 KB, 2 ranks, shared memory", "| sum of 16 KB, 2 ranks, TCP on 1 host",
        "| sum of 128 KB, the same, spinning", "| sum of 1024 KB, 2 x 2 ranks, TCP on 1 host",
        "| step, demo, 2 ranks, 1 agents, TCP on 1 host",
        "| step, demo, 2 ranks, 8 agents, TCP on 1 host"}) {
    EXPECT_THAT(output, HasSubstr(row));
  }
  EXPECT_EQ(output.find("nan"), std::string::npos) << output;
  EXPECT_EQ(output.find("inf "), std::string::npos) << output;
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace conclave
