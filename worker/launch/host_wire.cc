#include "worker/launch/host_wire.h"

#include <string_view>
#include <utility>

#include "common/status.h"
#include "common/utf8.h"
#include "worker/group/group_memory.h"

namespace conclave::worker {
namespace {

constexpr size_t kMaxText = 4096;
constexpr int64_t kMaxPatienceNanos = int64_t{24} * 3600 * 1'000'000'000;

absl::Status CheckText(std::string_view field, std::string_view text) {
  if (text.size() <= kMaxText) return absl::OkStatus();
  return InvalidArgument("{} has {} bytes; the limit is {}", field, text.size(), kMaxText);
}

absl::Status CheckRange(std::string_view field, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return InvalidArgument("{} is {}; it must be from {} to {}", field, value, least, most);
}

// Other processes' words: a string that is not UTF-8 would end the membership.
std::string Cut(std::string_view text) {
  return std::string(FirstCharacters(ValidUtf8(text), kMaxText));
}

void ToWire(const EpochName& epoch, v1::GroupEpoch* wire) {
  wire->set_number(epoch.number);
  wire->set_nonce(epoch.nonce);
}

EpochName FromWire(const v1::GroupEpoch& epoch) {
  return {.number = epoch.number(), .nonce = epoch.nonce()};
}

void ToWire(const RankReport& report, v1::RankReport* wire) {
  const RankSight& sight = report.sight;
  wire->set_pid(sight.pid);
  if (sight.exit.has_value()) {
    wire->mutable_exit()->set_code(sight.exit->code);
    wire->mutable_exit()->set_signal(sight.exit->signal);
  }
  wire->set_stopped(sight.stopped);
  wire->set_last_words(Cut(sight.last_words));
  wire->set_ready(sight.ready);
  wire->set_beat(sight.beat);
  wire->set_step_begun(sight.step_begun);
  wire->set_step_done(sight.step_done);
  wire->set_step_patience_ns(absl::ToInt64Nanoseconds(sight.step_patience));
  wire->set_identity(Cut(report.identity));
  wire->set_address(report.address);
}

absl::StatusOr<RankReport> FromWire(const v1::RankReport& wire) {
  RETURN_IF_ERROR(CheckRange("pid", wire.pid(), 0, INT32_MAX));
  RETURN_IF_ERROR(CheckRange("exit.code", wire.exit().code(), 0, 255));
  RETURN_IF_ERROR(CheckRange("exit.signal", wire.exit().signal(), 0, 64));
  RETURN_IF_ERROR(CheckRange("step_patience_ns", wire.step_patience_ns(), 0, kMaxPatienceNanos));
  RETURN_IF_ERROR(CheckText("last_words", wire.last_words()));
  RETURN_IF_ERROR(CheckText("identity", wire.identity()));
  RETURN_IF_ERROR(CheckText("address", wire.address()));
  RankReport report{.identity = wire.identity(), .address = wire.address()};
  RankSight& sight = report.sight;
  sight.pid = wire.pid();
  if (wire.has_exit()) {
    sight.exit = RankExit{.code = wire.exit().code(), .signal = wire.exit().signal()};
  }
  sight.stopped = wire.stopped();
  sight.last_words = wire.last_words();
  sight.ready = wire.ready();
  sight.beat = wire.beat();
  sight.step_begun = wire.step_begun();
  sight.step_done = wire.step_done();
  sight.step_patience = absl::Nanoseconds(wire.step_patience_ns());
  return report;
}

}  // namespace

v1::HostReport ToWire(const HostReport& report) {
  v1::HostReport wire;
  wire.set_beat(report.beat);
  if (report.epoch) ToWire(report.epoch, wire.mutable_epoch());
  for (const RankReport& rank : report.ranks) ToWire(rank, wire.add_ranks());
  wire.set_fault(Cut(report.fault));
  wire.set_leaving(report.leaving);
  return wire;
}

absl::StatusOr<HostReport> FromWire(const v1::HostReport& wire) {
  RETURN_IF_ERROR(CheckRange("ranks", wire.ranks_size(), 0, kMaxRanks));
  RETURN_IF_ERROR(CheckText("fault", wire.fault()));
  HostReport report{.beat = wire.beat(),
                    .epoch = FromWire(wire.epoch()),
                    .fault = wire.fault(),
                    .leaving = wire.leaving()};
  for (int i = 0; i < wire.ranks_size(); ++i) {
    absl::StatusOr<RankReport> rank = FromWire(wire.ranks(i));
    if (!rank.ok()) return Annotate(rank.status(), fmt::format("ranks[{}]", i));
    report.ranks.push_back(*std::move(rank));
  }
  return report;
}

v1::JoinResponse ToWire(const HostOrders& orders) {
  v1::JoinResponse wire;
  wire.set_beat(orders.beat);
  if (orders.epoch) ToWire(orders.epoch, wire.mutable_epoch());
  wire.set_ready(orders.ready);
  wire.set_last_loss(Cut(orders.last_loss));
  for (const std::string& address : orders.addresses) wire.add_addresses(address);
  wire.set_collective_id(orders.collective_id);
  wire.set_plan_port(orders.plan_port);
  return wire;
}

absl::StatusOr<HostOrders> FromWire(const v1::JoinResponse& wire) {
  RETURN_IF_ERROR(CheckRange("addresses", wire.addresses_size(), 0, kMaxRanks));
  RETURN_IF_ERROR(CheckRange("plan_port", wire.plan_port(), 0, 65'535));
  RETURN_IF_ERROR(CheckText("last_loss", wire.last_loss()));
  RETURN_IF_ERROR(CheckText("collective_id", wire.collective_id()));
  HostOrders orders{.beat = wire.beat(),
                    .epoch = FromWire(wire.epoch()),
                    .ready = wire.ready(),
                    .last_loss = wire.last_loss(),
                    .collective_id = wire.collective_id(),
                    .plan_port = wire.plan_port()};
  for (const std::string& address : wire.addresses()) {
    RETURN_IF_ERROR(CheckText("addresses", address));
    orders.addresses.push_back(address);
  }
  return orders;
}

}  // namespace conclave::worker
