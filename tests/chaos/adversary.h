#pragma once

#include <absl/time/time.h>

#include <functional>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/chaos/load.h"
#include "tests/chaos/worker_log.h"
#include "tests/integration/cluster.h"

namespace conclave {

// One thing that the adversary does to a cluster.
enum class Blow {
  kKillFollower,
  kStopFollower,
  kKillLeader,
  kStopLeader,
  kKillBothRanks,
  kKillWhileForming,  // A rank, and when the next epoch forms, one of that.
  kStopWhileForming,
  kKillLauncher,
  kKillLauncherWhileForming,
  kStopLauncherBriefly,  // Goes on before its ranks give it up.
  kStopLauncherForLong,  // Goes on after they did.
  kStopLauncherAndRank,  // The launcher goes on, and finds the stopped rank.
  kKillRouter,
  kStopRouter,  // Goes on.
  kKillRankAndRouter,
  kStopLeaderKillLauncher,
};

// "leader", "SIGSTOP": for people.
struct BlowName {
  const char* what;
  const char* signal;
};
BlowName NameOf(Blow blow);

// How often something was done, and how long it took until somebody told of it.
struct BlowRow {
  int times = 0;
  std::vector<absl::Duration> launcher_told;  // From the signal to the launcher's line.
  std::vector<absl::Duration> client_told;    // To the first word that reached a client.
};

// Strikes a cluster under load, by a seed, and sees to it that it stands up again.
class Adversary {
 public:
  // Programs are started again with the settings that they had.
  Adversary(Cluster& cluster, Load& load, std::vector<std::string> worker_settings,
            std::vector<std::string> router_settings, uint64_t seed);

  // `count` blows at random moments. Returns early when the cluster does not stand up.
  void Strike(int count);

  const std::vector<BlowRow>& rows() const { return rows_; }
  // Groups that were lost although nobody had done anything to them.
  int false_alarms() const { return false_alarms_; }
  const std::string& first_false_alarm() const { return first_false_alarm_; }

 private:
  std::vector<Blow> Draw(int count);
  void AwaitWork();
  void AwaitReady();
  // Does it, and waits for the launcher's word where one is owed.
  void Carry(Blow blow);
  void OnRank(size_t rank, int signal, BlowRow& row);
  void WhileForming(int signal, BlowRow& row);
  void OnLauncher(Blow blow, BlowRow& row);
  void OnRouter(Blow blow, BlowRow& row);
  void StartLauncherAgain();
  void StartRouterAgain();
  // The next loss that a launcher tells of, measured from `since`.
  void AwaitLoss(absl::Time since, BlowRow& row);
  bool Await(const std::string& what, const std::function<bool()>& condition);
  absl::Duration Between(absl::Duration least, absl::Duration most);
  size_t AnyRank() { return random_() % 2; }

  Cluster& cluster_;
  Load& load_;
  const std::vector<std::string> worker_settings_, router_settings_;
  std::mt19937_64 random_;
  WorkerLog log_;
  int losses_expected_ = 0;
  absl::Time since_;  // Of the blow that is being struck.
  std::vector<BlowRow> rows_;
  int false_alarms_ = 0;
  std::string first_false_alarm_;
};

// The rows as a table, one line each: what, signal, how often, seen within (median / greatest).
std::string TableOf(const std::vector<BlowRow>& rows);

}  // namespace conclave
