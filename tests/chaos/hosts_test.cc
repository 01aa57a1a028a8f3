// A group whose ranks are on two hosts, which are network namespaces: the same bytes as on one
// host, and what becomes of it when a host, a process or the network between them is lost.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/chaos/asker.h"
#include "tests/chaos/question.h"
#include "tests/fakes/certificate.h"
#include "tests/integration/net_hosts.h"

namespace conclave {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Minutes(2);
constexpr int kNumber = 0;  // Of the question: contemplating, RESUME.
const std::string kRoot = CONCLAVE_SOURCE_DIR;

// How the hosts are told where they stand.
enum class By { kConfig, kTorchrun, kLeaderWorkerSet };

class HostsTest : public ::testing::Test {
 protected:
  // One network for all: gRPC's threads stay in the one that they were born in.
  static void SetUpTestSuite() {
    if (NetHosts::WhyNot().empty()) net_ = new NetHosts(2);
  }
  static void TearDownTestSuite() { delete std::exchange(net_, nullptr); }
  void SetUp() override {
    if (net_ == nullptr) GTEST_SKIP() << NetHosts::WhyNot();
    folder_ = FreshFolder();
    certificate_ = MakeCertificate(folder_, "group", "IP:" + NetHosts::AddressOf(0));
  }
  void TearDown() override {
    for (auto* program : {&router_, &host_[0], &host_[1]}) program->reset();
    std::error_code ignored;
    if (!folder_.empty()) std::filesystem::remove_all(folder_, ignored);
  }

  std::vector<std::string> Arguments(const std::string& kind,
                                     const std::vector<std::string>& settings) {
    std::vector<std::string> arguments = {"--config", kRoot + "/configs/" + kind + ".yaml"};
    for (const std::string& setting : settings) {
      arguments.push_back("--set");
      arguments.push_back(setting);
    }
    return arguments;
  }
  std::vector<std::string> WorkerSettings(const std::string& address) {
    return {"model.directory=" + kRoot + "/models/conclave-demo",
            "model.fallback_profile=" + kRoot + "/configs/prompts/default.yaml",
            fmt::format("group.tensor_parallel={}", tp_),
            // Each test's machine is its own, and slow: a pause of a second is no loss there.
            "launcher.beat=3s", "launcher.max_restarts=50", "launcher.max_backoff=1s",
            "ports_file=" + folder_ + "/" + address + ".ports",
            "server.listen=" + address + ":9101", "health.listen=" + address + ":9102",
            "metrics.listen=" + address + ":9103"};
  }

  void StartHost(int host, const std::vector<std::string>& more = {}) {
    std::vector<std::string> settings = WorkerSettings(NetHosts::AddressOf(host));
    settings.insert(settings.end(), more.begin(), more.end());
    std::vector<std::string> variables;
    const std::string leader = NetHosts::AddressOf(0);
    if (by_ == By::kConfig) {
      settings.push_back("group.hosts.count=2");
      settings.push_back(fmt::format("group.hosts.index={}", host));
      settings.push_back("group.hosts.leader=" + leader);
      const Certificate& own = *certificate_;
      settings.push_back("group.hosts.tls.certificate=" + own.certificate);
      settings.push_back("group.hosts.tls.key=" + own.key);
      settings.push_back("group.hosts.tls.authority=" + own.certificate);
    } else {
      settings.push_back("group.hosts.place=environment");
    }
    if (by_ == By::kTorchrun) {
      variables = {"MASTER_ADDR=" + leader, "MASTER_PORT=29500", fmt::format("RANK={}", host),
                   "WORLD_SIZE=2", "LOCAL_RANK=0"};
    }
    if (by_ == By::kLeaderWorkerSet) {
      variables = {"LWS_LEADER_ADDRESS=" + leader, "LWS_GROUP_SIZE=2",
                   fmt::format("LWS_WORKER_INDEX={}", host)};
    }
    host_[host] = net_->Start(host, "conclave-worker", Arguments("worker", settings),
                              fmt::format("{}/host{}.log", folder_, host), variables);
  }
  void StartGroup() {
    StartHost(0);
    StartHost(1);
    StartRouter(NetHosts::AddressOf(0) + ":9101");
  }
  void StartRouter(const std::string& group) {
    const std::string ports = folder_ + "/router.ports";
    std::filesystem::remove(ports);
    router_ = std::make_unique<Program>(
        "conclave-router",
        Arguments("router", {"workers.addresses=[" + group + "]", "limits.resume_wait=5m",
                             "workers.place_patience=5m", "server.listen=127.0.0.1:9001",
                             "health.listen=127.0.0.1:9002", "metrics.listen=127.0.0.1:9003",
                             "ports_file=" + ports}),
        folder_ + "/router.log");
    ASSERT_TRUE(Eventually(kPatience, [&] { return !FileText(ports).empty(); }))
        << router_->Output();
  }

  Seen Ask() { return Asker("127.0.0.1:9001").AskOnceServed(Question(kNumber)); }
  // The answer of the same ranks on one host, with a router of its own.
  Seen AskOneHost() {
    const Program worker("conclave-worker", Arguments("worker", WorkerSettings("127.0.0.1")),
                         folder_ + "/one.log");
    StartRouter("127.0.0.1:9101");
    Seen seen = Ask();
    router_.reset();
    EXPECT_TRUE(seen.status.ok()) << seen.status.error_message() << worker.Output();
    return seen;
  }

  // Asks, does something to the group while agents think, and expects the same bytes.
  template <typename Disturb>
  void ExpectTheSameThrough(const Seen& undisturbed, Disturb disturb) {
    std::atomic<int64_t> deltas{0};
    Seen seen;
    std::thread client([&] {
      seen = Asker("127.0.0.1:9001").Ask(Question(kNumber), [&](const v1::GenerateResponse& event) {
        deltas += event.has_agent_delta() ? 1 : 0;
      });
    });
    EXPECT_TRUE(Eventually(kPatience, [&] { return deltas > 20; }));
    disturb();
    client.join();
    ExpectSame(seen, undisturbed);
    EXPECT_GT(seen.completed.receipt().resumes(), 0);
    EXPECT_GT(seen.lost, 0);
  }
  void ExpectSame(const Seen& seen, const Seen& other) {
    ASSERT_TRUE(seen.status.ok()) << seen.status.error_message() << host_[0]->Output();
    EXPECT_EQ(seen.fault, "");
    EXPECT_EQ(seen.completed.answer(), other.completed.answer());
    EXPECT_EQ(seen.completed.receipt().fingerprint(), other.completed.receipt().fingerprint());
    EXPECT_EQ(seen.completed.receipt().result_hash(), other.completed.receipt().result_hash());
  }
  bool HostSays(int host, const std::string& text) {
    return Eventually(kPatience,
                      [&] { return host_[host]->Output().find(text) != std::string::npos; });
  }
  // Of the ranks there, in order.
  std::vector<pid_t> RanksOf(int host) { return ChildrenOf(host_[host]->pid()); }
  int tp_ = 2;
  By by_ = By::kConfig;
  static inline NetHosts* net_ = nullptr;
  std::string folder_;
  std::optional<Certificate> certificate_;  // Of the hosts that are placed by their config.
  std::unique_ptr<Program> host_[2], router_;
};

TEST_F(HostsTest, TwoRanksOnTwoHostsSayWhatTwoOnOneHostSay) {
  const Seen one = AskOneHost();
  StartGroup();

  const Seen two = Ask();

  ExpectSame(two, one);
  EXPECT_EQ(RanksOf(0).size(), 1u);
  EXPECT_EQ(RanksOf(1).size(), 1u);
  EXPECT_THAT(host_[0]->Output(), HasSubstr("neither encrypted nor signed"));
  host_[1]->Signal(SIGTERM);  // As Kubernetes does: all at once.
  host_[0]->Signal(SIGTERM);
  EXPECT_EQ(host_[0]->Wait(kPatience), 0);
  EXPECT_EQ(host_[1]->Wait(kPatience), 0);
}

TEST_F(HostsTest, FourRanksOfALeaderWorkerSetSayWhatFourOnOneHostSay) {
  tp_ = 4;
  by_ = By::kLeaderWorkerSet;
  const Seen one = AskOneHost();
  StartGroup();

  ExpectSame(Ask(), one);
  EXPECT_EQ(RanksOf(0).size(), 2u);
  EXPECT_EQ(RanksOf(1).size(), 2u);
}

TEST_F(HostsTest, HostsThatComputeDifferentlyAreFoundBeforeAnythingIsServed) {
  StartHost(0, {"group.device=cpu", "group.instruction_set=avx2"});
  StartHost(1, {"group.device=cpu", "group.instruction_set=plain"});

  EXPECT_EQ(host_[0]->Wait(kPatience), 1) << host_[0]->Output();

  EXPECT_THAT(host_[0]->Output(), HasSubstr("rank 1 has cpu/plain"));
}

TEST_F(HostsTest, ACutEndsTheRanksOnBothSidesAndTheAnswerIsTheSameAfterIt) {
  by_ = By::kTorchrun;
  StartGroup();
  const Seen undisturbed = Ask();
  ASSERT_TRUE(undisturbed.status.ok()) << host_[0]->Output() << host_[1]->Output();

  ExpectTheSameThrough(undisturbed, [&] {
    const std::vector<pid_t> far = RanksOf(1);
    net_->Cut(1);
    EXPECT_TRUE(HostSays(0, "host 1 has left: it has been silent for"));
    EXPECT_TRUE(HostSays(1, "host 0 is lost: it is silent"));
    for (const pid_t rank : far) {
      EXPECT_TRUE(Eventually(kPatience, [&] { return !IsAlive(rank); }));
    }
    net_->Mend(1);
  });
  EXPECT_THAT(host_[0]->Output(), HasSubstr("epoch 2 is ready"));
}

TEST_F(HostsTest, ProcessesThatAreKilledOnEitherHostAreReplaced) {
  StartGroup();
  const Seen undisturbed = Ask();
  ASSERT_TRUE(undisturbed.status.ok()) << host_[0]->Output() << host_[1]->Output();

  ExpectTheSameThrough(undisturbed, [&] { kill(RanksOf(1).at(0), SIGKILL); });
  EXPECT_TRUE(HostSays(0, "rank 1 (pid"));
  EXPECT_THAT(host_[0]->Output(), HasSubstr("was killed by signal 9 (SIGKILL)"));

  ExpectTheSameThrough(undisturbed, [&] {
    const std::vector<pid_t> ranks = RanksOf(1);
    host_[1]->Signal(SIGKILL);
    host_[1]->Wait(kPatience);
    for (const pid_t rank : ranks) {
      EXPECT_TRUE(Eventually(kPatience, [&] { return !IsAlive(rank); }));
    }
    EXPECT_TRUE(HostSays(0, "host 1 has left: its connection ended"));
    StartHost(1);
  });

  ExpectTheSameThrough(undisturbed, [&] {
    const std::vector<pid_t> far = RanksOf(1);
    host_[0]->Signal(SIGKILL);
    host_[0]->Wait(kPatience);
    EXPECT_TRUE(HostSays(1, "host 0 is lost"));
    for (const pid_t rank : far) {
      EXPECT_TRUE(Eventually(kPatience, [&] { return !IsAlive(rank); }));
    }
    StartHost(0);
  });
}

}  // namespace
}  // namespace conclave
