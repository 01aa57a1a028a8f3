#include "tests/chaos/adversary.h"

#include <absl/time/clock.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <utility>

namespace conclave {
namespace {

constexpr size_t kBlows = static_cast<size_t>(Blow::kStopLeaderKillLauncher) + 1;
constexpr absl::Duration kPatience = absl::Seconds(90);

// How often each is drawn. The long stop of a launcher takes more than ten seconds.
constexpr int kWeights[kBlows] = {4, 4, 4, 4, 2, 2, 1, 2, 1, 2, 0, 1, 2, 2, 1, 1};
constexpr int kBlowsForALongStop = 60;

std::string Spread(std::vector<absl::Duration> durations) {
  if (durations.empty()) return "-";
  std::sort(durations.begin(), durations.end());
  const auto ms = [](absl::Duration each) { return absl::ToInt64Milliseconds(each); };
  return fmt::format("{} / {} ms ({})", ms(durations[durations.size() / 2]), ms(durations.back()),
                     durations.size());
}

}  // namespace

BlowName NameOf(Blow blow) {
  switch (blow) {
    case Blow::kKillFollower:
      return {"rank 1", "SIGKILL"};
    case Blow::kStopFollower:
      return {"rank 1", "SIGSTOP"};
    case Blow::kKillLeader:
      return {"leader", "SIGKILL"};
    case Blow::kStopLeader:
      return {"leader", "SIGSTOP"};
    case Blow::kKillBothRanks:
      return {"leader + rank 1", "SIGKILL"};
    case Blow::kKillWhileForming:
      return {"rank, and one of the group that forms", "SIGKILL"};
    case Blow::kStopWhileForming:
      return {"rank, and one of the group that forms", "SIGKILL, SIGSTOP"};
    case Blow::kKillLauncher:
      return {"launcher", "SIGKILL"};
    case Blow::kKillLauncherWhileForming:
      return {"rank, and launcher while it forms", "SIGKILL"};
    case Blow::kStopLauncherBriefly:
      return {"launcher", "SIGSTOP, SIGCONT after 0.2-3 s"};
    case Blow::kStopLauncherForLong:
      return {"launcher", "SIGSTOP, SIGCONT after its ranks"};
    case Blow::kStopLauncherAndRank:
      return {"launcher + rank", "SIGSTOP; launcher SIGCONT"};
    case Blow::kKillRouter:
      return {"router", "SIGKILL"};
    case Blow::kStopRouter:
      return {"router", "SIGSTOP, SIGCONT after 0.2-3 s"};
    case Blow::kKillRankAndRouter:
      return {"rank + router", "SIGKILL"};
    case Blow::kStopLeaderKillLauncher:
      return {"leader + launcher", "SIGSTOP + SIGKILL"};
  }
  return {"", ""};
}

Adversary::Adversary(Cluster& cluster, Load& load, std::vector<std::string> worker_settings,
                     std::vector<std::string> router_settings, uint64_t seed)
    : cluster_(cluster),
      load_(load),
      worker_settings_(std::move(worker_settings)),
      router_settings_(std::move(router_settings)),
      random_(seed),
      log_(cluster.folder() + "/worker.log"),
      rows_(kBlows) {
  log_.Update();
  losses_expected_ = log_.losses();
}

// All kinds in the ratio of their weights, shuffled.
std::vector<Blow> Adversary::Draw(int count) {
  std::vector<Blow> blows;
  for (int i = 0; i < count / kBlowsForALongStop; ++i) {
    blows.push_back(Blow::kStopLauncherForLong);
  }
  std::discrete_distribution<int> any(std::begin(kWeights), std::end(kWeights));
  // One of each first, where there is room.
  for (size_t i = 0; i < kBlows && blows.size() < static_cast<size_t>(count); ++i) {
    if (kWeights[i] > 0) blows.push_back(static_cast<Blow>(i));
  }
  while (blows.size() < static_cast<size_t>(count)) {
    blows.push_back(static_cast<Blow>(any(random_)));
  }
  std::shuffle(blows.begin(), blows.end(), random_);
  return blows;
}

void Adversary::Strike(int count) {
  AwaitReady();
  AwaitWork();
  for (const Blow blow : Draw(count)) {
    if (testing::Test::HasFailure()) return;
    log_.Update();
    const int unexpected = log_.losses() - losses_expected_;
    if (unexpected > 0 && first_false_alarm_.empty()) first_false_alarm_ = log_.last_loss();
    false_alarms_ += unexpected;
    losses_expected_ = log_.losses();

    BlowRow& row = rows_[static_cast<size_t>(blow)];
    ++row.times;
    load_.Mark();
    since_ = absl::Now();
    Carry(blow);
    AwaitReady();
    AwaitWork();
    if (const std::optional<absl::Time> told = load_.first_word()) {
      row.client_told.push_back(*told - since_);
    }
  }
}

bool Adversary::Await(const std::string& what, const std::function<bool()>& condition) {
  const absl::Time end = absl::Now() + kPatience;
  while (true) {
    log_.Update();
    if (condition()) return true;
    if (absl::Now() > end) break;
    absl::SleepFor(absl::Milliseconds(2));  // Between two looks at a process of the outside world.
  }
  ADD_FAILURE() << "waited in vain for " << what << "\nworker:\n"
                << cluster_.worker().Output() << "\nrouter:\n"
                << cluster_.router().Output();
  return false;
}

// A random amount of work, and something of every client: a family that met a loss must have got a
// token before it meets the next one. Every other time, some requests end in between.
void Adversary::AwaitWork() {
  const int64_t progress =
      load_.progress() + std::uniform_int_distribution<int64_t>(1, 400)(random_);
  const int64_t answers = load_.answers() + std::uniform_int_distribution<int>(0, 1)(random_) *
                                                std::uniform_int_distribution<int>(1, 3)(random_);
  Await("work", [&] {
    return load_.progress() >= progress && load_.answers() >= answers && load_.EachMoved();
  });
}

void Adversary::AwaitReady() {
  Await("a group that is ready", [&] { return log_.ready(); });
}

void Adversary::AwaitLoss(absl::Time since, BlowRow& row) {
  const int before = losses_expected_++;
  if (!Await("the launcher's word of a loss", [&] { return log_.losses() > before; })) return;
  row.launcher_told.push_back(log_.last_loss_at() - since);
}

absl::Duration Adversary::Between(absl::Duration least, absl::Duration most) {
  return least + (most - least) * std::uniform_real_distribution<double>(0, 1)(random_);
}

void Adversary::Carry(Blow blow) {
  BlowRow& row = rows_[static_cast<size_t>(blow)];
  switch (blow) {
    case Blow::kKillFollower:
      return OnRank(1, SIGKILL, row);
    case Blow::kStopFollower:
      return OnRank(1, SIGSTOP, row);
    case Blow::kKillLeader:
      return OnRank(0, SIGKILL, row);
    case Blow::kStopLeader:
      return OnRank(0, SIGSTOP, row);
    case Blow::kKillBothRanks:
      kill(log_.ranks()[1], SIGKILL);
      return OnRank(0, SIGKILL, row);
    case Blow::kKillWhileForming:
      return WhileForming(SIGKILL, row);
    case Blow::kStopWhileForming:
      return WhileForming(SIGSTOP, row);
    case Blow::kKillLauncher:
    case Blow::kKillLauncherWhileForming:
    case Blow::kStopLauncherBriefly:
    case Blow::kStopLauncherForLong:
    case Blow::kStopLauncherAndRank:
    case Blow::kStopLeaderKillLauncher:
      return OnLauncher(blow, row);
    case Blow::kKillRouter:
    case Blow::kStopRouter:
    case Blow::kKillRankAndRouter:
      return OnRouter(blow, row);
  }
}

void Adversary::OnRank(size_t rank, int signal, BlowRow& row) {
  const absl::Time now = absl::Now();
  kill(log_.ranks()[rank], signal);
  AwaitLoss(now, row);
}

// The second signal meets ranks that load, or have just loaded.
void Adversary::WhileForming(int signal, BlowRow& row) {
  OnRank(AnyRank(), SIGKILL, row);
  if (!Await("an epoch that forms", [&] { return log_.ranks().size() == 2; })) return;
  absl::SleepFor(Between(absl::ZeroDuration(), absl::Milliseconds(150)));
  OnRank(AnyRank(), signal, row);
}

void Adversary::StartLauncherAgain() {
  cluster_.worker().Wait(absl::Seconds(10));
  const std::vector<pid_t> orphans = log_.ranks();
  for (const pid_t each : orphans) {
    Await("ranks that die with their launcher", [&] { return !IsAlive(each); });
  }
  log_.Forget();
  losses_expected_ = log_.losses();
  cluster_.StartWorker(worker_settings_);
}

void Adversary::OnLauncher(Blow blow, BlowRow& row) {
  Program& launcher = cluster_.worker();
  const absl::Time now = absl::Now();
  switch (blow) {
    case Blow::kKillLauncherWhileForming:
      OnRank(AnyRank(), SIGKILL, row);
      if (!Await("an epoch that forms", [&] { return log_.ranks().size() == 2; })) return;
      absl::SleepFor(Between(absl::ZeroDuration(), absl::Milliseconds(150)));
      break;
    case Blow::kStopLeaderKillLauncher:
      kill(log_.ranks()[0], SIGSTOP);
      break;
    case Blow::kStopLauncherBriefly:
      launcher.Signal(SIGSTOP);
      absl::SleepFor(Between(absl::Milliseconds(200), absl::Seconds(3)));
      launcher.Signal(SIGCONT);
      return;  // Nobody is lost.
    case Blow::kStopLauncherForLong: {
      const std::vector<pid_t> ranks = log_.ranks();
      launcher.Signal(SIGSTOP);
      for (const pid_t each : ranks) {
        Await("ranks that give their launcher up", [&] { return !IsAlive(each); });
      }
      launcher.Signal(SIGCONT);
      return AwaitLoss(now, row);
    }
    case Blow::kStopLauncherAndRank: {
      launcher.Signal(SIGSTOP);
      kill(log_.ranks()[AnyRank()], SIGSTOP);
      absl::SleepFor(Between(absl::Milliseconds(100), absl::Seconds(1)));
      since_ = absl::Now();  // From now on somebody looks.
      launcher.Signal(SIGCONT);
      return AwaitLoss(since_, row);
    }
    default:
      break;
  }
  launcher.Signal(SIGKILL);
  StartLauncherAgain();
}

void Adversary::StartRouterAgain() {
  cluster_.router().Wait(absl::Seconds(10));
  cluster_.StartRouter(router_settings_);
  load_.RouterGoes();  // Also who asked between the signal and the death.
}

void Adversary::OnRouter(Blow blow, BlowRow& row) {
  Program& router = cluster_.router();
  if (blow == Blow::kStopRouter) {
    router.Signal(SIGSTOP);
    absl::SleepFor(Between(absl::Milliseconds(200), absl::Seconds(3)));
    router.Signal(SIGCONT);
    return;
  }
  load_.RouterGoes();
  router.Signal(SIGKILL);
  if (blow == Blow::kKillRankAndRouter) OnRank(AnyRank(), SIGKILL, row);
  StartRouterAgain();
}

std::string TableOf(const std::vector<BlowRow>& rows) {
  std::string table =
      "| what | signal | times | launcher tells: median / greatest (of) | client hears: median / "
      "greatest (of) |\n|---|---|---|---|---|\n";
  int times = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].times == 0) continue;
    const BlowName name = NameOf(static_cast<Blow>(i));
    table += fmt::format("| {} | {} | {} | {} | {} |\n", name.what, name.signal, rows[i].times,
                         Spread(rows[i].launcher_told), Spread(rows[i].client_told));
    times += rows[i].times;
  }
  return table + fmt::format("| all | | {} | | |\n", times);
}

}  // namespace conclave
