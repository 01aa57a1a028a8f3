#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/chaos/asker.h"
#include "tests/chaos/disturbed.h"
#include "tests/chaos/question.h"
#include "tests/fakes/certificate.h"
#include "tests/integration/net_hosts.h"

namespace conclave {

// For tests of a group whose ranks are on two hosts, which are network namespaces, and of a router.
// They skip where there are no namespaces. One suite a program.
class HostGroupTest : public ::testing::Test {
 protected:
  // How the hosts are told where they stand.
  enum class By { kConfig, kTorchrun, kLeaderWorkerSet };
  static constexpr absl::Duration kPatience = absl::Minutes(2);

  // One network for all: gRPC's threads stay in the one that they were born in.
  static void SetUpTestSuite();
  static void TearDownTestSuite();
  void SetUp() override;
  void TearDown() override;

  // `settings` as in --set, `variables` as "NAME=VALUE": besides those of all workers.
  void StartHost(int host, const std::vector<std::string>& settings = {},
                 std::vector<std::string> variables = {});
  // Both hosts, and the router.
  void StartGroup();

  Seen Ask();
  // The answer of the same ranks on one host, with a router of its own.
  Seen AskOneHost();
  // Asks, does something to the group while agents think, and expects the same bytes.
  void ExpectTheSameThrough(const Seen& undisturbed, const std::function<void()>& disturb);
  // Waits for it.
  bool HostSays(int host, const std::string& text);
  // Of the ranks there, in order.
  std::vector<pid_t> RanksOf(int host) { return ChildrenOf(host_[host]->pid()); }

  // What a test may set before it starts anything. Of all workers: the program as Program takes it,
  // settings and variables.
  int tp_ = 2;
  By by_ = By::kConfig;
  std::string worker_ = "conclave-worker";
  std::vector<std::string> settings_, variables_;
  v1::GenerateRequest question_ = Question(0);  // Contemplating, RESUME.

  static inline NetHosts* net_ = nullptr;
  std::unique_ptr<Program> host_[2];

 private:
  std::vector<std::string> Arguments(const std::string& kind,
                                     const std::vector<std::string>& settings);
  std::vector<std::string> WorkerSettings(const std::string& address);
  void StartRouter(const std::string& group);

  std::string folder_;
  std::optional<Certificate> certificate_;  // Of the hosts that are placed by their config.
  std::unique_ptr<Program> router_;
};

}  // namespace conclave
