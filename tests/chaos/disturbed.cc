#include "tests/chaos/disturbed.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/integration/program.h"

namespace conclave {

void ExpectSame(const Seen& seen, const Seen& other) {
  ASSERT_TRUE(seen.status.ok()) << seen.status.error_message();
  ASSERT_TRUE(other.status.ok()) << other.status.error_message();
  EXPECT_EQ(seen.fault, "");
  EXPECT_EQ(seen.completed.answer(), other.completed.answer());
  EXPECT_EQ(seen.completed.receipt().fingerprint(), other.completed.receipt().fingerprint());
  EXPECT_EQ(seen.completed.receipt().result_hash(), other.completed.receipt().result_hash());
  ASSERT_EQ(seen.agents.size(), other.agents.size());
  for (const auto& [id, agent] : other.agents) {
    EXPECT_EQ(seen.agents.at(id).tokens, agent.tokens) << "agent " << id;
    EXPECT_EQ(seen.agents.at(id).logprobs, agent.logprobs) << "agent " << id;
  }
}

void ExpectSameThrough(const std::string& router, const v1::GenerateRequest& question,
                       const Seen& undisturbed, const std::function<void()>& disturb) {
  std::atomic<int64_t> deltas{0};
  Seen seen;
  std::thread client([&] {
    seen = Asker(router).Ask(question, [&](const v1::GenerateResponse& event) {
      deltas += event.has_agent_delta() ? 1 : 0;
    });
  });
  EXPECT_TRUE(Eventually(absl::Minutes(2), [&] { return deltas > 20; }));
  disturb();
  client.join();
  ExpectSame(seen, undisturbed);
  EXPECT_GT(seen.completed.receipt().resumes(), 0);
  EXPECT_GT(seen.lost, 0);
}

}  // namespace conclave
