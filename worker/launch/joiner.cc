#include "worker/launch/joiner.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace conclave::worker {

Joiner::Joiner(JoinerOptions options, HostLink& link) : options_(std::move(options)), link_(link) {
  CHECK(options_.tick > absl::ZeroDuration() && options_.place.host > 0);
}

std::vector<int> Joiner::pids() const {
  return ranks_.has_value() ? ranks_->pids() : std::vector<int>();
}

void Joiner::Drain() {
  if (drain_until_.has_value()) {
    drain_now_ = true;
    return;
  }
  drain_until_ = now_ + Ticks(options_.drain_timeout);
  Log("is to leave: host 0 is told");
}

std::optional<absl::Status> Joiner::Turn(bool ticked) {
  if (ticked) ++now_;
  if (!joined_) {
    if (drain_until_.has_value()) return absl::OkStatus();
    if (now_ < join_at_) return std::nullopt;
    joined_ = true;
    heard_ = false;
    host_0_ = Stillness();
    link_.Join();
  }
  if (const std::optional<absl::Status> end = link_.End()) {
    if (absl::IsFailedPrecondition(*end)) {
      KillRanks();
      return Annotate(*end, "host 0 refuses this host");
    }
    Lose(std::string(MessageOf(*end)));
    return std::nullopt;
  }
  const std::optional<HostOrders> orders = link_.Orders();
  if (ticked && IsSilent(orders.has_value() ? orders->beat : 0)) {
    Lose(heard_ ? "it is silent" : "it does not answer");
    return std::nullopt;
  }
  if (orders.has_value()) Obey(*orders);
  Report();
  if (drain_until_.has_value()) return WatchDrain(orders.has_value() && !orders->epoch);
  return std::nullopt;
}

bool Joiner::IsSilent(uint64_t beat) {
  const int64_t still = host_0_.Turn(beat);
  const absl::Duration limit = heard_ ? options_.silence : options_.join_patience;
  return still >= Judge::TicksOfSilence(limit, options_.tick);
}

void Joiner::Lose(const std::string& why) {
  if (heard_ || tries_ == 0) Log(fmt::format("host 0 is lost: {}", why));
  KillRanks();
  TellServing(false);
  link_.Leave();
  joined_ = false;
  absl::Duration backoff = options_.first_backoff;
  for (int64_t i = 0; i < tries_ && backoff < options_.max_backoff; ++i) backoff *= 2;
  join_at_ = now_ + Ticks(std::min(backoff, options_.max_backoff));
  ++tries_;
}

void Joiner::Obey(const HostOrders& orders) {
  if (!std::exchange(heard_, true)) Log("has joined host 0");
  tries_ = 0;
  if (ranks_.has_value() && ranks_->epoch() != orders.epoch) {
    Log(fmt::format("epoch {} ends{}{}", ranks_->epoch().number,
                    orders.last_loss.empty() ? "" : ": ", orders.last_loss));
    KillRanks();
  }
  if (orders.epoch != failed_) failed_ = {}, fault_.clear();
  if (!ranks_.has_value() && orders.epoch && fault_.empty()) Begin(orders);
  if (ranks_.has_value()) PassOn(orders);
  TellServing(orders.ready);
}

void Joiner::Begin(const HostOrders& orders) {
  absl::StatusOr<HostRanks> ranks = HostRanks::Begin(options_, orders.epoch, orders.last_loss);
  if (!ranks.ok()) {
    failed_ = orders.epoch;
    fault_ = MessageOf(ranks.status());
    Log(fmt::format("epoch {} cannot begin: {}", orders.epoch.number, fault_));
    return;
  }
  ranks_.emplace(*std::move(ranks));
  Log(fmt::format("epoch {} begins with ranks {} to {} (pids {})", orders.epoch.number,
                  ranks_->first(), ranks_->first() + static_cast<int>(ranks_->pids().size()) - 1,
                  fmt::join(ranks_->pids(), ", ")));
}

// What this host's ranks need to know of the others.
void Joiner::PassOn(const HostOrders& orders) {
  const auto put = [](IdCell& cell, const std::string& id) {
    if (!id.empty() && cell.Get().empty()) cell.Put(id);
  };
  GroupMemory& memory = ranks_->memory();
  memory.header().launcher_beat.fetch_add(1, std::memory_order_release);
  put(memory.header().collective_id, orders.collective_id);
  put(memory.header().plan_port, orders.plan_port == 0 ? "" : std::to_string(orders.plan_port));
  if (orders.addresses.size() != static_cast<size_t>(options_.tp)) return;
  for (int rank = 0; rank < options_.tp; ++rank) {
    put(memory.cell(rank).address, orders.addresses[static_cast<size_t>(rank)]);
  }
}

void Joiner::Report() {
  HostReport report{.beat = static_cast<uint64_t>(now_), .leaving = drain_until_.has_value()};
  if (ranks_.has_value()) {
    report.epoch = ranks_->epoch();
    report.ranks = ReportRanks(*ranks_);
  } else if (!fault_.empty()) {
    report.epoch = failed_;
    report.fault = fault_;
  }
  link_.Report(report);
}

// Host 0 ends the epoch when the group is drained, and none is begun with a host that leaves.
std::optional<absl::Status> Joiner::WatchDrain(bool host_0_is_done) {
  if (host_0_is_done && !ranks_.has_value()) return absl::OkStatus();
  if (!drain_now_ && now_ < *drain_until_) return std::nullopt;
  KillRanks();
  return drain_now_ ? DeadlineExceeded("told to end at once")
                    : DeadlineExceeded("the group was still draining after {}",
                                       absl::FormatDuration(options_.drain_timeout));
}

void Joiner::KillRanks() {
  if (ranks_.has_value()) ranks_->Kill([this](std::string_view line) { Log(line); });
  ranks_.reset();
}

void Joiner::TellServing(bool serving) {
  if (std::exchange(serving_, serving) != serving && options_.on_serving) {
    options_.on_serving(serving);
  }
}

int64_t Joiner::Ticks(absl::Duration duration) const {
  return absl::IDivDuration(duration, options_.tick, &duration);
}

void Joiner::Log(std::string_view line) const {
  if (options_.log) options_.log(line);
}

}  // namespace conclave::worker
