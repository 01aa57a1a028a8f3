// Three groups with one model, two of one fingerprint and one of another. Whole groups are killed
// in mid-thought; what their agents say goes on at the other group of the same fingerprint, byte
// for byte, and never at the third.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "conclave/v1/conclave.grpc.pb.h"
#include "conclave/v1/worker.grpc.pb.h"
#include "tests/integration/groups.h"

namespace conclave {
namespace {

using ::testing::HasSubstr;

constexpr int kQuestions = 4;
constexpr absl::Duration kPatience = absl::Seconds(120);

// The environment's CONCLAVE_GROUP_KILLS asks for more.
int Kills() {
  const char* wanted = std::getenv("CONCLAVE_GROUP_KILLS");
  return wanted == nullptr ? 4 : std::max(1, std::atoi(wanted));
}

v1::GenerateRequest Question(int number) {
  v1::GenerateRequest request;
  auto* message = request.add_messages();
  message->set_role(v1::ROLE_USER);
  message->add_parts()->set_text(
      fmt::format("Tom has {} apples and buys {} boxes with {} apples each. How many apples does "
                  "Tom have now?",
                  11 + number, 2 + number, 13 + number));
  request.set_mode(v1::MODE_CONTEMPLATING);
  request.mutable_contemplation()->set_max_agents(5 + number % 4);
  request.mutable_contemplation()->set_stop_rule(number % 2 == 0 ? v1::STOP_RULE_NONE
                                                                 : v1::STOP_RULE_SETTLED);
  if (number == 2) request.mutable_contemplation()->set_aggregation(v1::AGGREGATION_SYNTHESISE);
  request.set_seed(7000 + static_cast<uint64_t>(number));
  request.set_on_loss(v1::ON_LOSS_RESUME);
  request.add_include(v1::INCLUDE_THINKING);
  request.add_include(v1::INCLUDE_AGENT_ANSWERS);
  request.add_include(v1::INCLUDE_TOKENS);
  return request;
}

struct SeenAgent {
  std::string text;
  std::vector<int> tokens;
};

// What one client saw.
struct Seen {
  grpc::Status status;
  v1::Completed completed;
  std::string answer;
  std::map<uint32_t, SeenAgent> agents;
  std::vector<std::string> lost, resumed;  // In the router's words.
  std::string fault;                       // A gap, or something twice.

  const v1::Receipt& receipt() const { return completed.receipt(); }
};

// What was heard so far, by one client or several.
struct Progress {
  std::atomic<int64_t> tokens{0};
  std::atomic<int> losses{0};
};

Seen Ask(const std::string& router, const v1::GenerateRequest& request, Progress& progress) {
  const auto stub =
      v1::ConclaveService::NewStub(grpc::CreateChannel(router, grpc::InsecureChannelCredentials()));
  Seen seen;
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  const auto reader = stub->Generate(&context, request);
  v1::GenerateResponse event;
  for (int64_t sequence = 1; reader->Read(&event); ++sequence) {
    if (event.sequence() != sequence) seen.fault = "a gap in the sequence numbers";
    if (event.has_agent_delta()) {
      SeenAgent& agent = seen.agents[event.agent()];
      agent.text += event.agent_delta().thinking() + event.agent_delta().answer();
      for (const auto& token : event.agent_delta().tokens()) agent.tokens.push_back(token.id());
      if (event.agent_delta().count() != static_cast<int>(agent.tokens.size())) {
        seen.fault = fmt::format("agent {}: {} tokens of {}", event.agent(), agent.tokens.size(),
                                 event.agent_delta().count());
      }
      progress.tokens += event.agent_delta().tokens_size();
    }
    if (event.has_group_changed()) {
      progress.losses += event.group_changed().resumed() ? 0 : 1;
      (event.group_changed().resumed() ? seen.resumed : seen.lost)
          .push_back(event.group_changed().reason());
    }
    if (event.has_answer_delta()) seen.answer += event.answer_delta().text();
    if (event.has_completed()) seen.completed = event.completed();
  }
  seen.status = reader->Finish();
  return seen;
}

// The same bytes: every token, text and kept count, votes, answer. Past a cut may come more or
// less.
void ExpectSame(const Seen& seen, const Seen& undisturbed) {
  ASSERT_TRUE(seen.status.ok()) << seen.status.error_message();
  EXPECT_EQ(seen.fault, "");
  EXPECT_EQ(seen.answer, seen.completed.answer());
  EXPECT_EQ(seen.completed.answer(), undisturbed.completed.answer());
  EXPECT_EQ(seen.receipt().result_hash(), undisturbed.receipt().result_hash());
  EXPECT_EQ(seen.receipt().fingerprint(), undisturbed.receipt().fingerprint());
  EXPECT_EQ(seen.receipt().thinking_tokens(), undisturbed.receipt().thinking_tokens());
  EXPECT_EQ(seen.receipt().answer_tokens(), undisturbed.receipt().answer_tokens());
  EXPECT_EQ(seen.receipt().aggregation_tokens(), undisturbed.receipt().aggregation_tokens());
  ASSERT_EQ(seen.receipt().agents_size(), undisturbed.receipt().agents_size());
  for (int i = 0; i < seen.receipt().agents_size(); ++i) {
    const v1::AgentUsage& usage = seen.receipt().agents(i);
    const v1::AgentUsage& other = undisturbed.receipt().agents(i);
    SCOPED_TRACE(fmt::format("agent {}", usage.agent()));
    EXPECT_EQ(usage.agent(), other.agent());
    EXPECT_EQ(usage.kept(), other.kept());
    EXPECT_EQ(usage.cut(), other.cut());
    const auto heard = seen.agents.find(usage.agent());
    const auto before = undisturbed.agents.find(usage.agent());
    if (heard == seen.agents.end() || before == undisturbed.agents.end()) continue;
    const std::vector<int>& a = heard->second.tokens;
    const std::vector<int>& b = before->second.tokens;
    const auto both = static_cast<std::ptrdiff_t>(std::min(a.size(), b.size()));
    EXPECT_TRUE(std::equal(a.begin(), a.begin() + both, b.begin()));
    if (usage.cut()) continue;
    EXPECT_EQ(a.size(), b.size());
    EXPECT_EQ(static_cast<int>(a.size()), usage.kept());
    EXPECT_EQ(heard->second.text, before->second.text);
  }
}

// Clients that ask at the same time, one question each.
class Clients {
 public:
  Clients(const std::string& router, std::vector<int> questions) : seen_(questions.size()) {
    for (size_t i = 0; i < questions.size(); ++i) {
      threads_.emplace_back([this, i, router, question = questions[i]] {
        seen_[i] = Ask(router, Question(question), progress_);
        ++ended_;
      });
    }
  }
  ~Clients() { Join(); }
  const std::vector<Seen>& Join() {
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    return seen_;
  }
  // Tokens, and losses of a group, that were heard by all of them together.
  int64_t tokens() const { return progress_.tokens; }
  int losses() const { return progress_.losses; }
  bool ended() const { return ended_ == static_cast<int>(seen_.size()); }

 private:
  std::vector<Seen> seen_;
  Progress progress_;
  std::atomic<int> ended_{0};
  std::vector<std::thread> threads_;  // Last: they use the others.
};

class GroupLossTest : public ::testing::Test {
 protected:
  void SetUp() override {
    groups_.Start("a");
    groups_.Start("b");
    groups_.Start("c", {"group.tensor_parallel=1"});
    // One of them by a name.
    groups_.StartRouter(
        {fmt::format("workers.addresses=[{},localhost:{},{}]", groups_.AddressOf("a"),
                     groups_.PortOf("b"), groups_.AddressOf("c")),
         "limits.resume_wait=2m", "workers.place_patience=2m"});
    AwaitReady(3);
  }

  // Groups that the router would send families to, by fingerprint.
  std::map<std::string, int> Ready() {
    const auto stub = v1::ConclaveService::NewStub(
        grpc::CreateChannel(groups_.AddressOf("router"), grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    v1::ListModelsResponse response;
    std::map<std::string, int> ready;
    if (!stub->ListModels(&context, {}, &response).ok()) return ready;
    for (const v1::Model& model : response.models()) {
      ready[model.description().fingerprint()] = model.groups_ready();
    }
    return ready;
  }

  void AwaitReady(int groups) {
    ASSERT_TRUE(Eventually(kPatience, [&] {
      int all = 0;
      for (const auto& [fingerprint, ready] : Ready()) all += ready;
      return all == groups;
    })) << groups_.program("router").Output();
  }

  // Agents that run there now; -1 when it does not answer.
  int AgentsRunning(const std::string& group) {
    const auto stub = v1::WorkerService::NewStub(
        grpc::CreateChannel(groups_.AddressOf(group), grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    v1::WatchLoadResponse load;
    const auto reader = stub->WatchLoad(&context, {});
    const bool told = reader->Read(&load);
    context.TryCancel();
    reader->Finish();
    return told ? load.agents_running() : -1;
  }

  std::vector<Seen> Undisturbed() {
    Clients clients(groups_.AddressOf("router"), {0, 1, 2, 3});
    std::vector<Seen> seen = clients.Join();
    for (const Seen& each : seen) {
      EXPECT_TRUE(each.status.ok()) << each.status.error_message();
      EXPECT_EQ(each.receipt().resumes(), 0);
      EXPECT_FALSE(each.receipt().counts_from_stream());
      EXPECT_GT(each.receipt().thinking_tokens(), 0);
    }
    return seen;
  }

  Groups groups_;
  std::mt19937 random_{11};
};

TEST_F(GroupLossTest, AgentsOfAKilledGroupGoOnAtTheOtherWithTheSameText) {
  const std::map<std::string, int> ready = Ready();
  ASSERT_EQ(ready.size(), 2u);
  const std::vector<Seen> undisturbed = Undisturbed();
  EXPECT_EQ(ready.at(undisturbed[0].receipt().fingerprint()), 2);
  int64_t all_tokens = 0;
  for (const Seen& seen : undisturbed) {
    for (const auto& [id, agent] : seen.agents) {
      all_tokens += static_cast<int64_t>(agent.tokens.size());
    }
  }

  int kills = 0, resumes = 0, answers = 0, met = 0, rounds = 0;
  while ((kills < Kills() || resumes == 0) && rounds++ < 4 * Kills() && !HasFailure()) {
    Clients clients(groups_.AddressOf("router"), {0, 1, 2, 3});
    const int64_t moment = std::uniform_int_distribution<int64_t>(1, all_tokens * 3 / 4)(random_);
    EXPECT_TRUE(
        Eventually(kPatience, [&] { return clients.tokens() >= moment || clients.ended(); }));
    const std::string victim = AgentsRunning("a") >= AgentsRunning("b") ? "a" : "b";
    const std::string victims_port = ":" + groups_.PortOf(victim);
    const std::string others_port = ":" + groups_.PortOf(victim == "a" ? "b" : "a");
    groups_.Kill(victim);
    ++kills;
    const std::vector<Seen>& seen = clients.Join();
    for (size_t i = 0; i < seen.size(); ++i) {
      SCOPED_TRACE(fmt::format("question {}, {} killed at token {}", i, victim, moment));
      ExpectSame(seen[i], undisturbed[i]);
      ++answers;
      resumes += seen[i].receipt().resumes();
      met += seen[i].lost.empty() ? 0 : 1;
      EXPECT_TRUE(seen[i].receipt().resumes() == 0 || !seen[i].resumed.empty());
      if (seen[i].lost.empty()) continue;
      // What it says of the loss.
      EXPECT_THAT(seen[i].lost[0], HasSubstr(victims_port));
      EXPECT_THAT(seen[i].lost[0], HasSubstr("was lost"));
      EXPECT_TRUE(seen[i].receipt().counts_from_stream());
      for (const std::string& words : seen[i].resumed) EXPECT_THAT(words, HasSubstr(others_port));
    }
    EXPECT_EQ(AgentsRunning("c"), 0);
    groups_.Start(victim);
    AwaitReady(3);
  }
  fmt::print("| whole group: SIGKILL | {} kills | {} answers | {} met a loss | {} resumes |\n",
             kills, answers, met, resumes);
  EXPECT_GT(resumes, 0) << "no kill met a request";
}

TEST_F(GroupLossTest, AFamilyWaitsForItsFingerprintThoughAnotherGroupIsIdle) {
  const std::vector<Seen> undisturbed = Undisturbed();
  // `b` is the other group of the fingerprint; without it, nobody can take the family over.
  std::optional<Clients> clients;
  for (int tries = 0; tries < 20; ++tries) {  // It may have ended before the kills meet it.
    clients.emplace(groups_.AddressOf("router"), std::vector<int>{0});
    EXPECT_TRUE(Eventually(kPatience, [&] { return clients->tokens() >= 40 || clients->ended(); }));
    groups_.Kill("a");
    groups_.Kill("b");
    ASSERT_TRUE(Eventually(kPatience, [&] { return clients->losses() > 0 || clients->ended(); }));
    if (!clients->ended()) break;
    groups_.Start("a");
    groups_.Start("b");
    AwaitReady(3);
  }
  AwaitReady(1);
  EXPECT_EQ(AgentsRunning("c"), 0);
  EXPECT_FALSE(clients->ended());
  // A new family takes what is there, under its own fingerprint.
  Progress progress;
  const Seen other = Ask(groups_.AddressOf("router"), Question(1), progress);
  EXPECT_TRUE(other.status.ok()) << other.status.error_message();
  EXPECT_NE(other.receipt().fingerprint(), undisturbed[1].receipt().fingerprint());
  EXPECT_FALSE(clients->ended());

  groups_.Start("b");
  const std::vector<Seen>& seen = clients->Join();
  ExpectSame(seen[0], undisturbed[0]);
  EXPECT_GT(seen[0].receipt().resumes(), 0);
  EXPECT_THAT(seen[0].resumed.at(0), HasSubstr(":" + groups_.PortOf("b")));
}

}  // namespace
}  // namespace conclave
