#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "conclave/v1/conclave.pb.h"

namespace conclave::cli {

// The streams of one request, one after another, as the one stream that an undisturbed request
// would have brought: each is told from the beginning but for the answer's bytes that are held, so
// what was shown is left out. Agents' texts are functions of the request, its seed and the group's
// fingerprint, so bytes are counted, not compared. Memory: the answer, and a few numbers for each
// agent. One thread.
class JoinedStream {
 public:
  explicit JoinedStream(v1::GenerateRequest request) : request_(std::move(request)) {}

  // The request to send now; `elapsed` since the first one was sent. Once it was admitted: the one
  // that takes the stream up, on any router.
  v1::GenerateRequest Begin(absl::Duration elapsed);

  // The next event of the stream. True: it is news, and now as the undisturbed stream would have
  // brought it; false: it is known. kAborted: another group answers than at first. kDataLoss: the
  // answer that was shown is not the one that was completed.
  absl::StatusOr<bool> Take(v1::GenerateResponse& event);

  const v1::Admitted& admitted() const { return admitted_; }  // Without id until then.
  bool stream_admitted() const { return stream_admitted_; }   // The present stream was.
  bool complete() const { return complete_; }
  const v1::Receipt& receipt() const { return receipt_; }  // Set when complete.

 private:
  // How far an agent has come.
  struct Reach {
    size_t thinking = 0, answer = 0;
    int tokens = 0;
  };

  bool TakeDelta(uint32_t agent, v1::AgentDelta& delta);
  absl::StatusOr<bool> TakeAdmitted(const v1::Admitted& admitted);
  absl::StatusOr<bool> TakeCompleted(v1::Completed& completed);

  v1::GenerateRequest request_;
  v1::Admitted admitted_;
  std::string answer_;
  std::vector<v1::Decision> decisions_;  // Of the run that the answer is of.
  int shown_decisions_ = 0;
  std::map<uint32_t, Reach> reach_;
  std::map<uint32_t, int> probed_at_;            // The last probe of an agent.
  std::set<std::pair<int, uint32_t>> happened_;  // Kind of event, agent: those that come once.
  std::set<std::string> changes_;                // Of the group, in words.
  int counted_ = -1;                             // Ends of the last vote.
  int64_t sequence_ = 0;
  bool complete_ = false;
  v1::Receipt receipt_;

  std::map<uint32_t, Reach> stream_reach_;  // The same of the present stream alone.
  bool stream_admitted_ = false;
};

// Where and when to ask again. One thread.
class Reconnect {
 public:
  static constexpr int kMostTries = 12;  // One after another that come to nothing.
  static constexpr int kMostInAll = 40;

  // `routers`: HOST:PORT, separated by commas.
  explicit Reconnect(const std::string& routers);

  const std::string& router() const { return routers_[at_]; }
  // The present stream was admitted.
  void OnAdmitted() { tries_ = 0, admitted_ = stream_admitted_ = true; }
  // The stream ended with this status. How long to wait before router(), which may be another one
  // now, is asked again; nullopt: that is the end. Before a request was ever admitted, each router
  // is asked once.
  std::optional<absl::Duration> After(const absl::Status& status);

 private:
  std::vector<std::string> routers_;
  size_t at_ = 0;
  int tries_ = 0, in_all_ = 0;
  bool admitted_ = false, stream_admitted_ = false;
};

}  // namespace conclave::cli
