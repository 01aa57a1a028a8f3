// Programs are killed and stopped at random moments under load; every answer must be the one of an
// undisturbed run, and no client may see a gap or anything twice.

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "conclave/v1/conclave.grpc.pb.h"
#include "tests/integration/cluster.h"

namespace conclave {
namespace {

constexpr int kClients = 4;

// Kills in all; the environment's CONCLAVE_KILLS asks for more.
int Kills() {
  const char* wanted = std::getenv("CONCLAVE_KILLS");
  return wanted == nullptr ? 20 : std::max(1, std::atoi(wanted));
}

v1::GenerateRequest Question(int number) {
  v1::GenerateRequest request;
  auto* message = request.add_messages();
  message->set_role(v1::ROLE_USER);
  message->add_parts()->set_text(
      fmt::format("Tom has {} apples and buys {} boxes with {} apples each. How many apples does "
                  "Tom have now?",
                  10 + number, 3 + number % 4, 12 + number));
  request.set_mode(v1::MODE_CONTEMPLATING);
  request.mutable_contemplation()->set_max_agents(4 + number % 5);
  // Half of them run to every agent's end, so that all of their text can be compared.
  request.mutable_contemplation()->set_stop_rule(number % 2 == 0 ? v1::STOP_RULE_NONE
                                                                 : v1::STOP_RULE_SETTLED);
  if (number % 4 == 3) {
    request.mutable_contemplation()->set_aggregation(v1::AGGREGATION_SYNTHESISE);
  }
  request.set_seed(1000 + static_cast<uint64_t>(number));
  request.set_on_loss(v1::ON_LOSS_RESUME);
  request.add_include(v1::INCLUDE_THINKING);
  request.add_include(v1::INCLUDE_AGENT_ANSWERS);
  return request;
}

// What one client saw.
struct Seen {
  grpc::Status status;
  v1::Completed completed;
  std::string answer;
  std::map<uint32_t, std::string> texts;
  bool gap = false;
};

class Asker {
 public:
  explicit Asker(const std::string& address)
      : stub_(v1::ConclaveService::NewStub(
            grpc::CreateChannel(address, grpc::InsecureChannelCredentials()))) {}

  Seen Ask(const v1::GenerateRequest& request, std::atomic<int64_t>& progress) {
    Seen seen;
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    auto reader = stub_->Generate(&context, request);
    v1::GenerateResponse event;
    int64_t sequence = 0;
    while (reader->Read(&event)) {
      seen.gap |= event.sequence() != ++sequence;
      if (event.has_agent_delta()) {
        seen.texts[event.agent()] += event.agent_delta().thinking() + event.agent_delta().answer();
        ++progress;
      }
      if (event.has_answer_delta()) seen.answer += event.answer_delta().text();
      if (event.has_completed()) seen.completed = event.completed();
    }
    seen.status = reader->Finish();
    return seen;
  }

 private:
  std::unique_ptr<v1::ConclaveService::Stub> stub_;
};

// A cut agent may have told more of its text, or less, than in the undisturbed run.
bool SameTexts(const Seen& seen, const Seen& undisturbed) {
  for (const auto& [agent, text] : seen.texts) {
    const auto other = undisturbed.texts.find(agent);
    if (other == undisturbed.texts.end()) continue;
    const size_t both = std::min(text.size(), other->second.size());
    if (text.compare(0, both, other->second, 0, both) != 0) return false;
    const auto& agents = seen.completed.receipt().agents();
    const bool cut = std::any_of(agents.begin(), agents.end(), [agent = agent](const auto& usage) {
      return usage.agent() == agent && usage.cut();
    });
    if (!cut && text != other->second) return false;
  }
  return true;
}

struct Totals {
  int asked = 0, lost = 0, doubled = 0, different = 0, asked_again = 0;
  int64_t resumes = 0;
  std::string first_fault;
};

// Clients that ask until told to stop, and compare.
class Load {
 public:
  Load(const std::string& address, int questions) : address_(address) {
    Asker asker(address);
    for (int i = 0; i < questions; ++i) {
      undisturbed_.push_back(asker.Ask(Question(i), progress_));
      EXPECT_TRUE(undisturbed_.back().status.ok()) << undisturbed_.back().status.error_message();
    }
    for (int i = 0; i < kClients; ++i) threads_.emplace_back([this, i] { Run(i); });
  }

  Totals Stop() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    return totals_;
  }
  // Deltas that were read by anyone.
  int64_t progress() const { return progress_; }
  // While a router is away, its clients ask again.
  std::atomic<bool> router_may_go{false};

 private:
  void Run(int client) {
    Asker asker(address_);
    for (size_t i = static_cast<size_t>(client); !stop_; i = (i + 1) % undisturbed_.size()) {
      Seen seen = asker.Ask(Question(static_cast<int>(i)), progress_);
      int again = 0;
      while (router_may_go && seen.status.error_code() == grpc::StatusCode::UNAVAILABLE &&
             ++again < 20) {
        seen = asker.Ask(Question(static_cast<int>(i)), progress_);
      }
      Compare(seen, undisturbed_[i], again);
    }
  }

  void Compare(const Seen& seen, const Seen& other, int again) {
    const std::lock_guard lock(mutex_);
    ++totals_.asked;
    totals_.asked_again += again;
    totals_.resumes += seen.completed.receipt().resumes();
    if (!seen.status.ok()) {
      Fault(totals_.lost, seen.status.error_message());
      return;
    }
    const bool streamed = seen.answer == seen.completed.answer();
    if (seen.gap || !streamed) Fault(totals_.doubled, "a gap, or something twice");
    if (seen.completed.answer() != other.completed.answer() ||
        seen.completed.receipt().result_hash() != other.completed.receipt().result_hash() ||
        !SameTexts(seen, other)) {
      Fault(totals_.different, seen.completed.receipt().ShortDebugString());
    }
  }

  void Fault(int& count, const std::string& words) {
    ++count;
    if (totals_.first_fault.empty()) totals_.first_fault = words;
  }

  const std::string address_;
  std::vector<Seen> undisturbed_;
  std::atomic<int64_t> progress_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  Totals totals_;
};

class KillTest : public testing::Test {
 protected:
  void SetUp() override {
    cluster_.StartWorker(settings_);
    cluster_.StartRouter();
  }

  // Waits for a random amount of work since the last loss.
  void AwaitWork(Load& load) {
    const int64_t wanted =
        load.progress() + std::uniform_int_distribution<int64_t>(1, 400)(random_);
    EXPECT_TRUE(Eventually(absl::Seconds(90), [&] { return load.progress() >= wanted; }))
        << cluster_.worker().Output() << cluster_.router().Output();
  }

  // Both ranks, once they are there.
  std::vector<pid_t> Ranks() {
    std::vector<pid_t> ranks;
    EXPECT_TRUE(Eventually(absl::Seconds(60), [&] {
      ranks = cluster_.Ranks();
      return ranks.size() == 2;
    })) << cluster_.worker().Output();
    return ranks;
  }

  void ExpectNothingLost(const std::string& what, int kills, const Totals& totals) {
    fmt::print(
        "| {} | {} kills | {} answers | {} resumes | {} lost | {} doubled | {} different |\n", what,
        kills, totals.asked, totals.resumes, totals.lost, totals.doubled, totals.different);
    EXPECT_EQ(totals.lost, 0) << totals.first_fault;
    EXPECT_EQ(totals.doubled, 0) << totals.first_fault;
    EXPECT_EQ(totals.different, 0) << totals.first_fault;
    EXPECT_GT(totals.asked, 0);
  }

  const std::vector<std::string> settings_ = {"launcher.max_restarts=100000",
                                              "launcher.first_backoff=10ms",
                                              "launcher.max_backoff=10ms", "launcher.beat=500ms"};
  Cluster cluster_;
  std::mt19937 random_{7};
};

TEST_F(KillTest, RanksThatAreKilledOrStoppedChangeNoAnswer) {
  Load load(cluster_.RouterAddress(), 12);
  const std::vector<std::pair<int, std::string>> signals = {{SIGKILL, "killed"},
                                                            {SIGSTOP, "stopped"}};
  const int kills = Kills() * 3 / 4;
  for (int i = 0; i < kills && !HasFailure(); ++i) {
    AwaitWork(load);
    const std::vector<pid_t> ranks = Ranks();
    if (ranks.size() == 2) {
      kill(ranks[static_cast<size_t>(i) % 2], signals[static_cast<size_t>(i) / 2 % 2].first);
    }
  }
  AwaitWork(load);
  const Totals totals = load.Stop();
  ExpectNothingLost("rank, leader: SIGKILL, SIGSTOP", kills, totals);
  EXPECT_GT(totals.resumes, 0) << "no kill met a request";
}

TEST_F(KillTest, AKilledLauncherTakesItsRanksAlongAndTheNextOneGoesOn) {
  Load load(cluster_.RouterAddress(), 12);
  const int kills = std::max(1, Kills() / 8);
  for (int i = 0; i < kills && !HasFailure(); ++i) {
    AwaitWork(load);
    cluster_.worker().Signal(SIGKILL);
    cluster_.worker().Wait(absl::Seconds(10));
    cluster_.StartWorker(settings_);
  }
  AwaitWork(load);
  const Totals totals = load.Stop();
  ExpectNothingLost("launcher: SIGKILL", kills, totals);
  EXPECT_GT(totals.resumes, 0) << "no kill met a request";
}

TEST_F(KillTest, AfterARoutersDeathTheSameQuestionAndSeedGiveTheSameAnswer) {
  Load load(cluster_.RouterAddress(), 12);
  load.router_may_go = true;
  const int kills = std::max(1, Kills() / 8);
  for (int i = 0; i < kills && !HasFailure(); ++i) {
    AwaitWork(load);
    cluster_.router().Signal(SIGKILL);
    cluster_.router().Wait(absl::Seconds(10));
    cluster_.StartRouter();
  }
  AwaitWork(load);
  const Totals totals = load.Stop();
  ExpectNothingLost("router: SIGKILL", kills, totals);
  EXPECT_GT(totals.asked_again, 0) << "no kill met a request";
}

}  // namespace
}  // namespace conclave
