#include "router/api/kept_requests.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "common/status.h"
#include "router/api/generation.h"

namespace conclave::router {

KeptRequests::KeptRequests(KeepOptions options, Metrics& metrics)
    : options_(options),
      outlived_(metrics.AddCounter("conclave_requests_outlived_total")),
      kept_(metrics.AddGauge("conclave_requests_kept")),
      log_bytes_(metrics.AddGauge("conclave_kept_log_bytes")) {}

KeptRequests::~KeptRequests() {
  LetGo();
  Entries leaving;
  {
    absl::MutexLock lock(&mutex_);
    leaving.swap(entries_);
  }
}

void KeptRequests::LetGo() {
  Expire(absl::InfiniteFuture());
  std::vector<std::shared_ptr<Generation>> leaving;
  {
    absl::MutexLock lock(&mutex_);
    leaving.swap(ending_);
  }
  // A stream that speaks just now may hold one a moment longer, and must not be what ends it.
  for (const auto& generation : leaving) generation->Close();
}

void KeptRequests::Abandon(std::vector<std::shared_ptr<Generation>> leaving) {
  for (const auto& generation : leaving) generation->Abandon();
  std::vector<std::shared_ptr<Generation>> ended;
  absl::MutexLock lock(&mutex_);
  ending_.insert(ending_.end(), leaving.begin(), leaving.end());
  const auto over = std::partition(ending_.begin(), ending_.end(),
                                   [](const auto& generation) { return !generation->ended(); });
  ended.assign(std::make_move_iterator(over), std::make_move_iterator(ending_.end()));
  ending_.erase(over, ending_.end());
}

bool KeptRequests::Shared::MayTake(const std::string& tenant, int64_t more, int64_t limit) const {
  const auto found = held.find(tenant);
  return (found == held.end() ? 0 : found->second) <= limit - total - more;
}

void KeptRequests::Shared::Add(const std::string& tenant, int64_t more) {
  total += more;
  if ((held[tenant] += more) == 0) held.erase(tenant);
}

KeptRequests::Entries::iterator KeptRequests::Kept(const RequestName& name) {
  const auto [begin, end] = entries_.equal_range(name);
  auto last = entries_.end();
  for (auto at = begin; at != end; ++at) {
    if (at->second.generation->has_log()) last = at;
  }
  return last;
}

absl::Status KeptRequests::CheckNewLocked(const RequestName& name) {
  const auto found = Kept(name);
  if (found == entries_.end() || found->second.generation->ended()) return absl::OkStatus();
  return MakeStatus(absl::StatusCode::kAlreadyExists,
                    fmt::format("request {} runs; `resume` takes up its stream", name.id));
}

absl::Status KeptRequests::CheckNew(const RequestName& name) {
  absl::MutexLock lock(&mutex_);
  return CheckNewLocked(name);
}

absl::Status KeptRequests::Add(const RequestName& name, std::shared_ptr<Generation> generation,
                               absl::Duration keep_for) {
  std::shared_ptr<Generation> leaving;
  absl::MutexLock lock(&mutex_);
  RETURN_IF_ERROR(CheckNewLocked(name));
  if (const auto former = Kept(name); former != entries_.end() && former->second.idle()) {
    leaving = TakeOut(former);
  }
  generation->Start();  // Before anybody else can reach it.
  Entry& entry = entries_.emplace(name, Entry{})->second;
  entry.generation = std::move(generation);
  entry.keep_for = keep_for;
  SetGauges();
  return absl::OkStatus();
}

// The log is copied without the lock; meanwhile the entry has a taker and stays.
absl::StatusOr<KeptRequests::TakenUp> KeptRequests::TakeUp(const RequestName& name,
                                                           const HeldAnswer& held,
                                                           std::function<void()> wake) {
  Entries::iterator entry;
  std::shared_ptr<Generation> generation;
  {
    absl::MutexLock lock(&mutex_);
    entry = Kept(name);
    if (entry == entries_.end()) return NotFound("request {} is not held here", name.id);
    ++entry->second.takers;
    generation = entry->second.generation;
  }
  absl::StatusOr<Generation::Attached> attached = generation->Attach(held, std::move(wake));
  {
    absl::MutexLock lock(&mutex_);
    --entry->second.takers;
    if (generation->attached()) SetGone(entry, std::nullopt);
    SetGauges();
  }
  RETURN_IF_ERROR(attached.status());
  if (attached->former) attached->former();
  return TakenUp{.generation = std::move(generation), .client = attached->client};
}

std::shared_ptr<Generation> KeptRequests::TakeEnded(const std::string& tenant) {
  auto first = entries_.end();
  for (auto at = entries_.lower_bound({.tenant = tenant, .id = ""});
       at != entries_.end() && at->first.tenant == tenant; ++at) {
    const Entry& entry = at->second;
    if (!entry.idle() || !entry.generation->ended()) continue;
    if (first == entries_.end() || *entry.gone < *first->second.gone) first = at;
  }
  return first == entries_.end() ? nullptr : TakeOut(first);
}

std::shared_ptr<Generation> KeptRequests::TakeOut(Entries::iterator entry) {
  SetGone(entry, std::nullopt);
  std::shared_ptr<Generation> leaving = std::move(entry->second.generation);
  entries_.erase(entry);
  return leaving;
}

void KeptRequests::SetGone(Entries::iterator entry, std::optional<absl::Time> when) {
  std::optional<absl::Time>& gone = entry->second.gone;
  if (gone.has_value() != when.has_value()) places_.Add(entry->first.tenant, when ? 1 : -1);
  gone = when;
}

void KeptRequests::ClientGone(const RequestName& name,
                              const std::shared_ptr<Generation>& generation, int client,
                              absl::Time now) {
  if (!generation->Detach(client)) return;
  std::shared_ptr<Generation> leaving, abandoned;
  {
    absl::MutexLock lock(&mutex_);
    const auto [begin, end] = entries_.equal_range(name);
    const auto entry = std::find_if(
        begin, end, [&](const auto& each) { return each.second.generation == generation; });
    // Or another client has come since, and may have left again.
    if (entry == end || generation->attached() || entry->second.gone) return;
    bool keep = generation->has_log();
    if (keep && !places_.MayTake(name.tenant, 1, options_.max_requests)) {
      leaving = TakeEnded(name.tenant);
      keep = places_.MayTake(name.tenant, 1, options_.max_requests);
    }
    if (keep || entry->second.takers > 0) {  // A taker that fails leaves it to Expire.
      SetGone(entry, now);
      outlived_.Add();
    } else {
      abandoned = TakeOut(entry);
    }
    SetGauges();
  }
  if (abandoned) Abandon({std::move(abandoned)});
}

absl::Status KeptRequests::Stop(const RequestName& name) {
  absl::Status stopped = NotFound("no request {} runs here", name.id);
  std::vector<std::shared_ptr<Generation>> running;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = entries_.equal_range(name);
    for (auto at = found.first; at != found.second; ++at) {
      if (!at->second.generation->ended()) running.push_back(at->second.generation);
    }
  }
  for (const auto& generation : running) stopped = generation->Stop();
  return stopped;
}

void KeptRequests::Expire(absl::Time now) {
  std::vector<std::shared_ptr<Generation>> leaving;
  {
    absl::MutexLock lock(&mutex_);
    for (auto at = entries_.begin(); at != entries_.end();) {
      const auto entry = at++;
      const Entry& each = entry->second;
      if (!each.idle()) continue;
      if (now - *each.gone < each.keep_for && each.generation->has_log()) continue;
      leaving.push_back(TakeOut(entry));
    }
    SetGauges();
  }
  Abandon(std::move(leaving));
}

bool KeptRequests::Take(const std::string& tenant, int64_t bytes) {
  for (;;) {
    std::shared_ptr<Generation> leaving;
    absl::MutexLock lock(&mutex_);
    if (bytes_.MayTake(tenant, bytes, options_.max_bytes.bytes)) {
      bytes_.Add(tenant, bytes);
      SetGauges();
      return true;
    }
    leaving = TakeEnded(tenant);
    if (leaving == nullptr) return false;
    // Its bytes come back when it is destroyed, here unless a client is just attaching to it.
  }
}

void KeptRequests::Give(const std::string& tenant, int64_t bytes) {
  absl::MutexLock lock(&mutex_);
  bytes_.Add(tenant, -bytes);
  SetGauges();
}

void KeptRequests::SetGauges() {
  kept_.Set(static_cast<double>(places_.total));
  log_bytes_.Set(static_cast<double>(bytes_.total));
}

}  // namespace conclave::router
