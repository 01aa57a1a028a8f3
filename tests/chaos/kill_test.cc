// Programs are killed and stopped at random moments under load; every answer must be the one of an
// undisturbed run, or what the request asked for in case of a loss, and no client may see a gap or
// anything twice.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "tests/chaos/adversary.h"
#include "tests/chaos/load.h"
#include "tests/integration/cluster.h"

namespace conclave {
namespace {

constexpr int kClients = 4;

// A number from the environment.
int Number(const char* name, int otherwise) {
  const char* wanted = std::getenv(name);
  return wanted == nullptr ? otherwise : std::max(1, std::atoi(wanted));
}

class KillTest : public testing::Test {
 protected:
  void SetUp() override {
    cluster_.StartWorker(worker_settings_);
    cluster_.StartRouter(router_settings_);
  }

  const std::vector<std::string> worker_settings_ = {
      "launcher.max_restarts=100000", "launcher.first_backoff=10ms", "launcher.max_backoff=10ms",
      "launcher.first_beat=5s"};
  // A machine that is busy otherwise may take long to form a group: that is no reason to give up.
  const std::vector<std::string> router_settings_ = {
      "limits.resume_wait=60s", "workers.place_patience=60s", "limits.straggler_patience=60s"};
  Cluster cluster_;
};

TEST_F(KillTest, WhateverIsKilledOrStoppedNoAnswerIsLostDoubledOrDifferent) {
  const int kills = Number("CONCLAVE_KILLS", 20);
  const int seed = Number("CONCLAVE_KILL_SEED", 7);
  Load load(cluster_.RouterAddress(), kClients);
  Adversary adversary(cluster_, load, worker_settings_, router_settings_,
                      static_cast<uint64_t>(seed));

  adversary.Strike(kills);
  const std::vector<Outcomes> outcomes = load.Stop();

  fmt::print("{}", TableOf(adversary.rows()));
  fmt::print(
      "| on_loss | answers | met a loss | agents resumed | answered by the rest | of those "
      "replayed "
      "| failed as asked | asked again | lost | doubled | different |\n"
      "|---|---|---|---|---|---|---|---|---|---|---|\n");
  const char* names[] = {"RESUME", "CONTINUE", "FAIL"};
  for (size_t i = 0; i < outcomes.size(); ++i) {
    const Outcomes& each = outcomes[i];
    fmt::print("| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n", names[i], each.asked,
               each.met_a_loss, each.resumed, each.from_the_rest, each.replayed,
               each.failed_as_asked, each.asked_again, each.lost, each.doubled, each.different);
    EXPECT_EQ(each.lost + each.doubled + each.different, 0)
        << fmt::format("{}", fmt::join(each.faults, "\n"));
  }
  fmt::print("| losses that nobody caused: {} |\n", adversary.false_alarms());
  EXPECT_EQ(adversary.false_alarms(), 0) << adversary.first_false_alarm();
  EXPECT_GT(outcomes[0].resumed, 0) << "no kill met a request";
}

}  // namespace
}  // namespace conclave
