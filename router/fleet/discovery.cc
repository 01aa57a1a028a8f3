#include "router/fleet/discovery.h"

#include <algorithm>
#include <utility>

#include "common/status.h"

namespace conclave::router {

Discovery::Discovery(DiscoveryOptions options, Resolver& resolver, Fleet& fleet,
                     Fleet::MakeClient make, const Logger& logger, Metrics& metrics)
    : options_(std::move(options)),
      resolver_(resolver),
      fleet_(fleet),
      make_(std::move(make)),
      logger_(logger.With({{"dns", options_.dns}})),
      resolved_(metrics.AddCounter("conclave_dns_resolutions_total", {{"result", "ok"}})),
      failed_(metrics.AddCounter("conclave_dns_resolutions_total", {{"result", "failed"}})),
      addresses_(metrics.AddGauge("conclave_dns_addresses")),
      left_out_(metrics.AddGauge("conclave_groups_left_out")) {}

Discovery::~Discovery() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

void Discovery::Start() {
  SetMembers();
  if (!options_.dns.empty()) thread_ = std::thread([this] { Run(); });
}

void Discovery::Run() {
  bool stopping = false;
  while (!stopping) {
    Refresh();
    absl::MutexLock lock(&mutex_);
    stopping = mutex_.AwaitWithTimeout(absl::Condition(&stopping_), options_.every);
  }
}

void Discovery::Refresh() {
  auto found = resolver_.Resolve(options_.dns);
  if (!found.ok()) {
    failed_.Add();
    const std::string trouble(MessageOf(found.status()));
    // Once, and again when there is something else to say.
    if (trouble != trouble_) {
      logger_.Warning("workers.dns does not resolve; its last members are kept",
                      {{"status", found.status()}, {"members", found_.size()}});
    }
    trouble_ = trouble;
    return;
  }
  resolved_.Add();
  addresses_.Set(static_cast<double>(found->size()));
  if (!trouble_.empty()) logger_.Info("workers.dns resolves again", {{"addresses", found->size()}});
  trouble_.clear();
  found_ = *std::move(found);
  SetMembers();
}

void Discovery::SetMembers() {
  std::vector<std::string> wanted = options_.addresses;
  std::set<std::string> seen(wanted.begin(), wanted.end());
  for (const bool member : {true, false}) {
    for (const std::string& address : found_) {
      if (members_.contains(address) == member && seen.insert(address).second) {
        wanted.push_back(address);
      }
    }
  }
  const size_t limit = static_cast<size_t>(options_.max_groups);
  const size_t beyond = wanted.size() - std::min(wanted.size(), limit);
  if (beyond > 0 && beyond != told_left_out_) {
    logger_.Warning("more addresses than workers.max_groups; the rest is left out",
                    {{"max_groups", limit}, {"left_out", beyond}});
  }
  told_left_out_ = beyond;
  left_out_.Set(static_cast<double>(beyond));
  wanted.resize(wanted.size() - beyond);
  members_ = {wanted.begin(), wanted.end()};
  fleet_.SetMembers(wanted, make_);
}

}  // namespace conclave::router
