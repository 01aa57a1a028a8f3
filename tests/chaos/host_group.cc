#include "tests/chaos/host_group.h"

#include <fmt/format.h>

#include <filesystem>
#include <utility>

namespace conclave {
namespace {

const std::string kRoot = CONCLAVE_SOURCE_DIR;
constexpr char kRouter[] = "127.0.0.1:9001";

}  // namespace

void HostGroupTest::SetUpTestSuite() {
  if (NetHosts::WhyNot().empty()) net_ = new NetHosts(2);
}

void HostGroupTest::TearDownTestSuite() { delete std::exchange(net_, nullptr); }

void HostGroupTest::SetUp() {
  if (net_ == nullptr) GTEST_SKIP() << NetHosts::WhyNot();
  folder_ = FreshFolder();
  certificate_ = MakeCertificate(folder_, "group", "IP:" + NetHosts::AddressOf(0));
}

void HostGroupTest::TearDown() {
  for (auto* program : {&router_, &host_[0], &host_[1]}) program->reset();
  std::error_code ignored;
  if (!folder_.empty()) std::filesystem::remove_all(folder_, ignored);
}

std::vector<std::string> HostGroupTest::Arguments(const std::string& kind,
                                                  const std::vector<std::string>& settings) {
  std::vector<std::string> arguments = {"--config", kRoot + "/configs/" + kind + ".yaml"};
  for (const std::string& setting : settings) {
    arguments.push_back("--set");
    arguments.push_back(setting);
  }
  return arguments;
}

std::vector<std::string> HostGroupTest::WorkerSettings(const std::string& address) {
  std::vector<std::string> settings = {
      "model.directory=" + kRoot + "/models/conclave-demo",
      "model.fallback_profile=" + kRoot + "/configs/prompts/default.yaml",
      fmt::format("group.tensor_parallel={}", tp_),
      // Each test's machine is its own, and slow: a pause of a second is no loss there.
      "launcher.beat=3s", "launcher.max_restarts=50", "launcher.max_backoff=1s",
      "ports_file=" + folder_ + "/" + address + ".ports", "server.listen=" + address + ":9101",
      "health.listen=" + address + ":9102", "metrics.listen=" + address + ":9103"};
  settings.insert(settings.end(), settings_.begin(), settings_.end());
  return settings;
}

void HostGroupTest::StartHost(int host, const std::vector<std::string>& more,
                              std::vector<std::string> variables) {
  std::vector<std::string> settings = WorkerSettings(NetHosts::AddressOf(host));
  settings.insert(settings.end(), more.begin(), more.end());
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
  variables.insert(variables.begin(), variables_.begin(), variables_.end());
  if (by_ == By::kTorchrun) {
    variables.insert(variables.end(),
                     {"MASTER_ADDR=" + leader, "MASTER_PORT=29500", fmt::format("RANK={}", host),
                      "WORLD_SIZE=2", "LOCAL_RANK=0"});
  }
  if (by_ == By::kLeaderWorkerSet) {
    variables.insert(variables.end(), {"LWS_LEADER_ADDRESS=" + leader, "LWS_GROUP_SIZE=2",
                                       fmt::format("LWS_WORKER_INDEX={}", host)});
  }
  host_[host] = net_->Start(host, worker_, Arguments("worker", settings),
                            fmt::format("{}/host{}.log", folder_, host), variables);
}

void HostGroupTest::StartGroup() {
  StartHost(0);
  StartHost(1);
  StartRouter(NetHosts::AddressOf(0) + ":9101");
}

void HostGroupTest::StartRouter(const std::string& group) {
  const std::string ports = folder_ + "/router.ports";
  std::filesystem::remove(ports);
  router_ = std::make_unique<Program>(
      "conclave-router",
      Arguments("router", {"workers.addresses=[" + group + "]", "limits.resume_wait=5m",
                           "workers.place_patience=5m", std::string("server.listen=") + kRouter,
                           "health.listen=127.0.0.1:9002", "metrics.listen=127.0.0.1:9003",
                           "ports_file=" + ports}),
      folder_ + "/router.log");
  ASSERT_TRUE(Eventually(kPatience, [&] { return !FileText(ports).empty(); })) << router_->Output();
}

Seen HostGroupTest::Ask() { return Asker(kRouter).AskOnceServed(question_); }

Seen HostGroupTest::AskOneHost() {
  std::vector<std::string> command = {"env"};
  command.insert(command.end(), variables_.begin(), variables_.end());
  command.push_back(Program::PathOf(worker_));
  const std::vector<std::string> arguments = Arguments("worker", WorkerSettings("127.0.0.1"));
  command.insert(command.end(), arguments.begin(), arguments.end());
  const Program worker(std::move(command), folder_ + "/one.log");
  StartRouter("127.0.0.1:9101");
  Seen seen = Ask();
  router_.reset();
  EXPECT_TRUE(seen.status.ok()) << seen.status.error_message() << worker.Output();
  return seen;
}

void HostGroupTest::ExpectTheSameThrough(const Seen& undisturbed,
                                         const std::function<void()>& disturb) {
  ExpectSameThrough(kRouter, question_, undisturbed, disturb);
}

bool HostGroupTest::HostSays(int host, const std::string& text) {
  return Eventually(kPatience,
                    [&] { return host_[host]->Output().find(text) != std::string::npos; });
}

}  // namespace conclave
