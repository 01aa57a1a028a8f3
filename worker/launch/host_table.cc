#include "worker/launch/host_table.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace conclave::worker {

HostTable::HostTable(OtherHosts& others, HostTableOptions options)
    : others_(others),
      options_(std::move(options)),
      hosts_(static_cast<size_t>(options_.hosts - 1)) {
  CHECK(options_.hosts > 1 && options_.tp % options_.hosts == 0);
}

void HostTable::Turn(bool ticked) {
  if (ticked) ++beat_;
  std::vector<OtherHosts::Member> members = others_.Look();
  CHECK(members.size() == hosts_.size());
  for (size_t i = 0; i < hosts_.size(); ++i) {
    Host& host = hosts_[i];
    const int number = static_cast<int>(i) + 1;
    const bool was_here = std::exchange(host.member, std::move(members[i])).here;
    if (host.member.here && !was_here) {
      host.beat = Stillness();
      options_.log(fmt::format("host {} has joined", number));
    }
    if (!host.member.here) {
      if (was_here) options_.log(fmt::format("host {} has left: {}", number, host.member.left));
      host.ran = {};
      continue;
    }
    if (!ticked) continue;
    const int64_t silent = host.beat.Turn(host.member.report.beat);
    if (silent < Judge::TicksOfSilence(options_.silence, options_.tick)) continue;
    host.member.here = false;
    host.member.left =
        fmt::format("it has been silent for {}", absl::FormatDuration(silent * options_.tick));
    options_.log(fmt::format("host {} has left: {}", number, host.member.left));
    others_.Drop(number, host.member.left);
  }
}

bool HostTable::idle() const {
  return std::all_of(hosts_.begin(), hosts_.end(), [](const Host& host) {
    return host.member.here && !host.member.report.leaving && !host.member.report.epoch;
  });
}

std::string HostTable::WhoIsMissing() const {
  std::string numbers;
  for (size_t i = 0; i < hosts_.size(); ++i) {
    const OtherHosts::Member& member = hosts_[i].member;
    if (member.here && !member.report.leaving) continue;
    numbers += fmt::format("{}{}", numbers.empty() ? "" : ", ", i + 1);
  }
  return numbers;
}

std::optional<int> HostTable::leaving() const {
  for (size_t i = 0; i < hosts_.size(); ++i) {
    if (hosts_[i].member.here && hosts_[i].member.report.leaving) return static_cast<int>(i) + 1;
  }
  return std::nullopt;
}

std::optional<Loss> HostTable::FindLoss(const EpochName& epoch) {
  for (size_t i = 0; i < hosts_.size(); ++i) {
    Host& host = hosts_[i];
    const int number = static_cast<int>(i) + 1;
    const HostReport& report = host.member.report;
    const auto lost = [&](std::string_view why) {
      return Loss{.rank = number * ranks_of_each(),
                  .reason = fmt::format("host {} {}", number, why)};
    };
    if (!host.member.here) return lost(fmt::format("has left: {}", host.member.left));
    if (report.epoch == epoch && !report.fault.empty()) {
      return lost(fmt::format("could not begin: {}", report.fault));
    }
    if (host.ran == epoch && report.epoch != epoch) return lost("has ended its ranks");
    host.ran = report.epoch;
  }
  return std::nullopt;
}

std::vector<RankSight> HostTable::Ranks(const EpochName& epoch, GroupMemory& memory) const {
  std::vector<RankSight> sights;
  for (size_t i = 0; i < hosts_.size(); ++i) {
    const HostReport& report = hosts_[i].member.report;
    const bool told =
        report.epoch == epoch && report.ranks.size() == static_cast<size_t>(ranks_of_each());
    for (size_t k = 0; k < static_cast<size_t>(ranks_of_each()); ++k) {
      sights.push_back(told ? report.ranks[k].sight : RankSight());
      if (told)
        Mirror(report.ranks[k], memory.cell(ranks_of_each() + static_cast<int>(sights.size()) - 1));
    }
  }
  return sights;
}

void HostTable::Order(const HostRanks* ranks, const std::string& last_loss, bool ready) {
  HostOrders orders{.beat = beat_, .ready = ready, .last_loss = last_loss};
  if (ranks != nullptr) {
    const GroupMemory& memory = ranks->memory();
    orders.epoch = ranks->epoch();
    orders.collective_id = memory.header().collective_id.Get();
    orders.plan_port = std::atoi(memory.header().plan_port.Get().c_str());
    for (int rank = 0; rank < memory.tp() && !ready; ++rank) {
      orders.addresses.push_back(memory.cell(rank).address.Get());
      if (!orders.addresses.back().empty()) continue;
      orders.addresses.clear();
      break;
    }
  }
  others_.Order(orders);
}

}  // namespace conclave::worker
