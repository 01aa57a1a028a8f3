#include "worker/service/load_feed.h"

#include <tuple>
#include <utility>
#include <vector>

#include "common/status.h"

namespace conclave::worker {
namespace {

auto Fields(const GroupLoad& load) {
  return std::tie(load.credits, load.agents_running, load.queued_prompt_tokens, load.blocks_free,
                  load.blocks_total, load.ready, load.epoch);
}

}  // namespace

void LoadWatch::Offer(const GroupLoad& load, absl::Time now) {
  {
    absl::MutexLock lock(&mutex_);
    const bool news = !last_ || Fields(*last_) != Fields(load) || now - last_at_ >= heartbeat_;
    if (!news || ending_) return;
    next_ = last_ = load;
    last_at_ = now;
  }
  Advance();
}

void LoadWatch::OnWritten(bool ok) {
  {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok && !ending_) ending_ = Cancelled("the stream broke");
  }
  Advance();
}

void LoadWatch::End(const absl::Status& why) {
  {
    absl::MutexLock lock(&mutex_);
    if (!ending_) ending_ = why;
  }
  Advance();
}

bool LoadWatch::ended() const {
  absl::MutexLock lock(&mutex_);
  return ending_.has_value();
}

// As FamilySession::Advance: a thread inside the wire keeps the call from being finished under it.
void LoadWatch::Advance() {
  const std::shared_ptr<LoadWatch> self = shared_from_this();
  for (;;) {
    std::optional<GroupLoad> load;
    std::optional<absl::Status> finish;
    {
      absl::MutexLock lock(&mutex_);
      if (finished_) return;
      if (ending_) {
        if (writing_ || calls_out_ > 0) return;
        finish = ending_;
        finished_ = true;
      } else if (next_ && !writing_) {
        load = std::exchange(next_, std::nullopt);
        writing_ = true;
        ++calls_out_;
      } else {
        return;
      }
    }
    if (finish) return wire_.finish(*finish);
    wire_.write(*load);
    absl::MutexLock lock(&mutex_);
    --calls_out_;
  }
}

absl::Status LoadFeed::Add(const std::shared_ptr<LoadWatch>& watch) {
  std::optional<GroupLoad> load;
  absl::Time at;
  {
    absl::MutexLock lock(&mutex_);
    if (ended_) return *ended_;
    std::erase_if(watches_, [](const auto& entry) { return entry.second->ended(); });
    if (watches_.size() >= kMostWatches) {
      return ResourceExhausted("{} routers watch the load; the limit is {}", watches_.size(),
                               kMostWatches);
    }
    watches_.emplace(watch.get(), watch);
    load = load_;
    at = load_at_;
  }
  if (load) watch->Offer(*load, at);
  return absl::OkStatus();
}

void LoadFeed::Publish(const GroupLoad& load, absl::Time now) {
  std::vector<std::shared_ptr<LoadWatch>> watches;
  {
    absl::MutexLock lock(&mutex_);
    load_ = load;
    load_at_ = now;
    std::erase_if(watches_, [](const auto& entry) { return entry.second->ended(); });
    for (const auto& [key, watch] : watches_) watches.push_back(watch);
  }
  for (const auto& watch : watches) watch->Offer(load, now);
}

void LoadFeed::EndAll(const absl::Status& why) {
  std::map<LoadWatch*, std::shared_ptr<LoadWatch>> watches;
  {
    absl::MutexLock lock(&mutex_);
    ended_ = why;
    watches.swap(watches_);
  }
  for (const auto& [key, watch] : watches) watch->End(why);
}

}  // namespace conclave::worker
