#include "worker/rank.h"

#include <absl/time/time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/config.h"
#include "common/status.h"
#include "worker/backend/cuda_loader.h"
#include "worker/collective/exchange.h"
#include "worker/collective/gloo_collective.h"
#include "worker/collective/hosts_collective.h"
#include "worker/collective/shared_collective.h"
#include "worker/group/beat.h"
#include "worker/group/follower.h"
#include "worker/group/group_runner.h"
#include "worker/group/rpc_channel.h"
#include "worker/group/shm_channel.h"
#include "worker/launch/flight_file.h"
#include "worker/leader.h"
#include "worker/model/lost_mapping.h"
#include "worker/runner/device_choice.h"
#include "worker/runner/model_runner.h"
#include "worker/runner_options.h"

namespace conclave::worker {
namespace {

// A peer that is gone is noticed by the launcher; this only bounds a wait that nobody would end.
constexpr absl::Duration kCollectivePatience = absl::Minutes(10);

// This rank, and where it stands.
struct Seat {
  const WorkerConfig& config;
  const GroupPlace& place;
  GroupMemory& memory;
  int rank = 0;

  int tp() const { return memory.tp(); }
  int on_each() const { return place.ranks_of_each(tp()); }
  int on_host() const { return rank - place.first_rank(tp()); }
  bool elsewhere() const { return place.hosts > 1; }
};

// Of this host's ranks, in order.
std::unique_ptr<Collective> JoinHost(const Seat& seat) {
  if (seat.on_each() == 1) return std::make_unique<SoloCollective>();
  return std::make_unique<SharedCollective>(seat.memory.collective().data(), seat.on_host(),
                                            seat.on_each(), kCollectivePatience);
}

// Of the ranks that have this one's place on all hosts.
absl::StatusOr<std::unique_ptr<Collective>> JoinAcross(const Seat& seat) {
  GlooOptions options;
  options.rank = seat.place.host, options.size = seat.place.hosts;
  options.epoch = static_cast<int64_t>(seat.memory.nonce() >> 1);
  ASSIGN_OR_RETURN(options.host, OwnAddress(seat.place));
  options.patience = kCollectivePatience;
  ASSIGN_OR_RETURN(const std::unique_ptr<GlooEndpoint> endpoint, GlooEndpoint::Open(options));
  seat.memory.cell(seat.rank).address.Put(endpoint->address());
  std::vector<std::string> addresses;
  for (int host = 0; host < seat.place.hosts; ++host) {
    const int rank = host * seat.on_each() + seat.on_host();
    auto address = seat.memory.cell(rank).address.Await(kCollectivePatience);
    if (!address.ok()) {
      return Annotate(address.status(), fmt::format("the address of rank {}", rank));
    }
    addresses.push_back(*std::move(address));
  }
  return endpoint->Join(addresses);
}

absl::StatusOr<std::unique_ptr<Collective>> JoinRanks(const Seat& seat) {
  if (!seat.elsewhere()) return JoinHost(seat);
  ASSIGN_OR_RETURN(std::unique_ptr<Collective> across, JoinAcross(seat));
  if (seat.on_each() == 1) return across;
  return std::make_unique<HostsCollective>(std::move(across), JoinHost(seat));
}

void LogChoice(const ChosenDevice& chosen, int ranks, const Logger& log) {
  if (!chosen.why_no_cuda.empty()) {
    log.Info("no CUDA device: using the CPU", {{"why", chosen.why_no_cuda}});
  }
  for (const std::string& key : chosen.unheeded) {
    log.Warning("a setting is not heeded: it is for GPUs", {{"key", key}});
  }
  if (chosen.cuda != nullptr && chosen.gpus < ranks) {
    log.Warning("fewer GPUs than ranks: they are shared, which is slow",
                {{"gpus", chosen.gpus}, {"ranks", ranks}});
  }
}

// What sums where the ranks' partial sums are; `host` joins the same ranks. Null: `host` itself
// does.
absl::StatusOr<std::unique_ptr<Collective>> JoinDevices(const Seat& seat,
                                                        const ChosenDevice& chosen,
                                                        Collective& host) {
  if (chosen.cuda == nullptr || seat.tp() == 1) return nullptr;
  // NCCL is told the same on all ranks, though hosts may differ.
  const float shares = chosen.gpus < seat.on_each() ? 1.0f : 0.0f;
  ASSIGN_OR_RETURN(const std::vector<float> who_shares, Exchange(shares, host));
  CollectiveSeat own{.rank = seat.rank,
                     .size = seat.tp(),
                     .devices_are_shared = std::ranges::count(who_shares, 1.0f) > 0};
  if (seat.elsewhere()) {
    ASSIGN_OR_RETURN(own.address, OwnAddress(seat.place));
  }
  IdCell& cell = seat.memory.header().collective_id;
  if (seat.rank == 0) {
    ASSIGN_OR_RETURN(const std::string made, chosen.cuda->MakeCollectiveId(own));
    cell.Put(made);
  }
  const absl::StatusOr<std::string> id = cell.Await(kCollectivePatience);
  if (!id.ok()) return Annotate(id.status(), "the name of the devices' group");
  return chosen.cuda->MakeCollective(*chosen.device, own, *id, host);
}

// What steps cost here: measured on all ranks at once, before the first plan and after the greatest
// steps have found their memory. Never less than what a busy machine adds to a small model's step.
absl::StatusOr<StepCost> MeasureStepCost(ModelRunner& runner) {
  constexpr int kRows = 64;
  RETURN_IF_ERROR(runner.Rehearse());
  ASSIGN_OR_RETURN(const absl::Duration one, runner.MeasureStep(1));
  ASSIGN_OR_RETURN(const absl::Duration many, runner.MeasureStep(kRows));
  StepCost cost;
  cost.step = std::max(one, absl::Milliseconds(1));
  cost.row = std::max(many / kRows, absl::Microseconds(50));
  return cost;
}

absl::Status LeadGroup(const Seat& seat, const Beat& beat, ModelRunner& runner,
                       const StepCost& cost, const Logger& log) {
  std::optional<PlanServer> plans;
  if (seat.elsewhere()) {
    ASSIGN_OR_RETURN(const std::string address, OwnAddress(seat.place));
    plans.emplace(seat.memory, seat.on_each());
    RETURN_IF_ERROR(plans->Start(JoinHostPort(address, 0), seat.config.group.hosts_tls));
  }
  ShmLeaderChannel channel(seat.memory);
  GroupRunner group(runner.shape(), runner, channel, seat.memory.cell(0), cost);
  return Lead({.config = seat.config,
               .memory = seat.memory,
               .beat = beat,
               .runner = group,
               .family = runner.model().config().family,
               .parameters = runner.model().parameters(),
               .elsewhere = seat.elsewhere(),
               .log = log});
}

absl::StatusOr<std::unique_ptr<FollowerChannel>> ReachLeader(const Seat& seat) {
  if (seat.place.host == 0) return std::make_unique<ShmFollowerChannel>(seat.memory, seat.rank);
  const auto port = seat.memory.header().plan_port.Await(kCollectivePatience);
  if (!port.ok()) return Annotate(port.status(), "the port of the leader's plans");
  return RpcFollowerChannel::Connect(
      {.leader = JoinHostPort(seat.place.leader, std::atoi(port->c_str())),
       .tls = seat.config.group.hosts_tls,
       .epoch = seat.memory.epoch(),
       .nonce = seat.memory.nonce(),
       .rank = seat.rank});
}

absl::Status FollowLeader(const Seat& seat, ModelRunner& runner) {
  ASSIGN_OR_RETURN(const std::unique_ptr<FollowerChannel> channel, ReachLeader(seat));
  const absl::Status end = Follow(*channel, runner, seat.memory.cell(seat.rank));
  return end.code() == absl::StatusCode::kCancelled ? absl::OkStatus()
                                                    : end;  // The leader is done.
}

}  // namespace

absl::Status RunRank(const RankFlags& flags, const WorkerConfig& config, const GroupPlace& place,
                     const Logger& log) {
  ASSIGN_OR_RETURN(GroupMemory memory, EnterRank(flags));
  RankCell& cell = memory.cell(flags.rank);
  EndOnLostMapping(cell.last_words);
  const Beat beat(cell, memory.header().launcher_beat, [&cell, &log] {
    SayLastWords(cell, "the launcher was silent for 10s");
    log.Error("the launcher is silent: this rank ends");
    _exit(kLauncherSilentExit);
  });
  // The launcher passes on why a rank could not start.
  const auto or_last_words = [&cell](absl::Status status) {
    if (!status.ok()) SayLastWords(cell, MessageOf(status));
    return status;
  };
  const Seat seat{.config = config, .place = place, .memory = memory, .rank = flags.rank};
  const DeviceOptions device_options = DeviceOptionsOf(config, seat.on_host(), seat.on_each());
  auto own = ChooseDevice(device_options, DefaultCudaPlaces());
  RETURN_IF_ERROR(or_last_words(own.status()));
  const auto host = JoinRanks(seat);
  RETURN_IF_ERROR(or_last_words(host.status()));
  const auto chosen = AgreeOnDevice(device_options, *std::move(own), **host);
  RETURN_IF_ERROR(or_last_words(chosen.status()));
  if (flags.rank == 0) LogChoice(*chosen, seat.on_each(), log);
  Device& device = *chosen->device;
  const auto joined = JoinDevices(seat, *chosen, **host);
  RETURN_IF_ERROR(or_last_words(joined.status()));
  Collective& collective = *joined ? **joined : **host;
  auto runner = ModelRunner::Create(RunnerOptionsOf(config), device, collective);
  RETURN_IF_ERROR(or_last_words(runner.status()));
  log.Info("loaded", {{"rank", flags.rank},
                      {"model", config.model.directory},
                      {"backend", device.name()},
                      {"sums", collective.name()},
                      {"threads", config.group.threads}});
  ModelRunner& mine = **runner;
  PutText(IdentityOf(mine.shape()), cell.identity);
  const absl::StatusOr<StepCost> cost = MeasureStepCost(mine);
  RETURN_IF_ERROR(or_last_words(cost.status()));
  const absl::Status end =
      flags.rank == 0 ? LeadGroup(seat, beat, mine, *cost, log) : FollowLeader(seat, mine);
  if (end.ok()) return end;
  // What runs on a device may never end, and to free its memory is to wait for it.
  std::cerr << ComplaintText("conclave-worker", or_last_words(end)) << std::flush;
  _exit(RankExitCode(end, seat.elsewhere()));
}

}  // namespace conclave::worker
