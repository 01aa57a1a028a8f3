#include "router/api/kept_requests.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/status.h"
#include "router/api/generation.h"

namespace conclave::router {

KeptRequests::KeptRequests(KeepOptions options, Metrics& metrics)
    : options_(options),
      outlived_(metrics.AddCounter("conclave_requests_outlived_total",
                                   "Requests that were kept when their client's stream ended.")),
      kept_(metrics.AddGauge("conclave_requests_kept", "Requests without a client that are kept.")),
      log_bytes_(metrics.AddGauge("conclave_kept_log_bytes",
                                  "Bytes held so that streams can be taken up again.")) {}

KeptRequests::~KeptRequests() {
  Entries leaving;
  {
    absl::MutexLock lock(&mutex_);
    leaving.swap(entries_);
  }
}

KeptRequests::Entries::const_iterator KeptRequests::Kept(const RequestName& name) const {
  const auto [begin, end] = entries_.equal_range(name);
  auto last = entries_.end();
  for (auto at = begin; at != end; ++at) {
    if (at->second.generation->has_log()) last = at;
  }
  return last;
}

absl::Status KeptRequests::CheckNewLocked(const RequestName& name) const {
  const auto found = Kept(name);
  if (found == entries_.end() || found->second.generation->ended()) return absl::OkStatus();
  return MakeStatus(absl::StatusCode::kAlreadyExists,
                    fmt::format("request {} runs; `resume` takes up its stream", name.id));
}

absl::Status KeptRequests::CheckNew(const RequestName& name) const {
  absl::MutexLock lock(&mutex_);
  return CheckNewLocked(name);
}

absl::Status KeptRequests::Add(const RequestName& name, std::shared_ptr<Generation> generation,
                               absl::Duration keep_for) {
  Leaving leaving;
  absl::MutexLock lock(&mutex_);
  RETURN_IF_ERROR(CheckNewLocked(name));
  if (const auto former = Kept(name); former != entries_.end() && former->second.gone) {
    leaving.push_back(former->second.generation);
    entries_.erase(former);
    --gone_;
  }
  generation->Start();  // Before anybody else can reach it.
  entries_.emplace(name, Entry{std::move(generation), keep_for, std::nullopt});
  SetGauges();
  return absl::OkStatus();
}

absl::StatusOr<KeptRequests::TakenUp> KeptRequests::TakeUp(const RequestName& name,
                                                           const HeldAnswer& held,
                                                           std::function<void()> wake) {
  TakenUp taken;
  std::function<void()> former;
  {
    absl::MutexLock lock(&mutex_);
    const auto kept = Kept(name);
    if (kept == entries_.end()) return NotFound("request {} is not held here", name.id);
    Entry& entry = entries_.erase(kept, kept)->second;  // The same, to be changed.
    ASSIGN_OR_RETURN(Generation::Attached attached,
                     entry.generation->Attach(held, std::move(wake)));
    former = std::move(attached.former);
    taken = {.generation = entry.generation, .client = attached.client};
    if (entry.gone) --gone_;
    entry.gone.reset();
    SetGauges();
  }
  if (former) former();
  return taken;
}

std::shared_ptr<Generation> KeptRequests::TakeEnded(Short what) {
  std::map<std::string_view, int64_t> held;  // By each tenant, of what is short.
  const auto may_go = [](const Entry& entry) { return entry.gone && entry.generation->ended(); };
  for (const auto& [name, entry] : entries_) {
    if (!may_go(entry)) continue;
    held[name.tenant] += what == Short::kBytes ? entry.generation->log_bytes() : 1;
  }
  auto first = entries_.end();
  for (auto at = entries_.begin(); at != entries_.end(); ++at) {
    if (!may_go(at->second)) continue;
    if (first == entries_.end()) {
      first = at;
      continue;
    }
    const auto order = [&](const auto& entry) {
      return std::pair(-held[entry.first.tenant], *entry.second.gone);
    };
    if (order(*at) < order(*first)) first = at;
  }
  if (first == entries_.end()) return nullptr;
  std::shared_ptr<Generation> leaving = std::move(first->second.generation);
  entries_.erase(first);
  --gone_;
  return leaving;
}

void KeptRequests::ClientGone(const RequestName& name,
                              const std::shared_ptr<Generation>& generation, int client,
                              absl::Time now) {
  Leaving leaving;
  bool keep = false;
  {
    absl::MutexLock lock(&mutex_);
    // Under the lock: a client that takes it up comes before this or after `gone` is set, which it
    // takes back.
    if (!generation->Detach(client)) return;
    const auto [begin, end] = entries_.equal_range(name);
    const auto entry = std::find_if(
        begin, end, [&](const auto& each) { return each.second.generation == generation; });
    if (entry == end) return;
    keep = generation->has_log();
    if (keep && gone_ >= options_.max_requests) {
      leaving.push_back(TakeEnded(Short::kPlaces));
      keep = leaving.back() != nullptr;
    }
    if (keep) {
      entry->second.gone = now;
      ++gone_;
      outlived_.Add();
    } else {
      leaving.push_back(std::move(entry->second.generation));
      entries_.erase(entry);
    }
    SetGauges();
  }
  if (!keep) generation->Abandon();
}

absl::Status KeptRequests::Stop(const RequestName& name) const {
  absl::Status stopped = NotFound("no request {} runs here", name.id);
  Leaving running;
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
  Leaving leaving;
  {
    absl::MutexLock lock(&mutex_);
    for (auto at = entries_.begin(); at != entries_.end();) {
      const Entry& entry = at->second;
      const bool over =
          entry.gone && (now - *entry.gone >= entry.keep_for || !entry.generation->has_log());
      if (!over) {
        ++at;
        continue;
      }
      leaving.push_back(entry.generation);
      at = entries_.erase(at);
      --gone_;
    }
    SetGauges();
  }
  for (const auto& generation : leaving) generation->Abandon();
}

bool KeptRequests::Take(int64_t bytes) {
  for (;;) {
    std::shared_ptr<Generation> leaving;
    {
      absl::MutexLock lock(&mutex_);
      if (bytes_ + bytes <= options_.max_bytes.bytes) {
        bytes_ += bytes;
        SetGauges();
        return true;
      }
      leaving = TakeEnded(Short::kBytes);
      if (leaving == nullptr) return false;
    }
    // Its bytes come back when it is destroyed, here unless a client is just attaching to it.
  }
}

void KeptRequests::Give(int64_t bytes) {
  absl::MutexLock lock(&mutex_);
  bytes_ -= bytes;
  SetGauges();
}

void KeptRequests::SetGauges() {
  kept_.Set(gone_);
  log_bytes_.Set(static_cast<double>(bytes_));
}

}  // namespace conclave::router
