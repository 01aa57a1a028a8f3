#include "cli/reconnect.h"

#include <absl/strings/match.h>
#include <absl/strings/str_split.h>
#include <openssl/sha.h>

#include <algorithm>
#include <utility>

#include "common/status.h"
#include "common/status_details.h"

namespace conclave::cli {
namespace {

constexpr absl::Duration kFirstWait = absl::Milliseconds(100), kLongestWait = absl::Seconds(3);
// Bytes of Completed.answer in conclave.proto: of a longer answer, its first ones, up to the end of
// a character.
constexpr size_t kMostAnswerTold = size_t{2} << 20, kMostCharacter = 4;

std::string Sha256(const std::string& bytes) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
         reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

// Takes off what is known of a text that begins at `begin`.
void LeaveNews(size_t known, size_t begin, std::string& text) {
  if (begin < known) text.erase(0, std::min(known - begin, text.size()));
}

// The stream broke; not an end that the router gave, which names the request.
bool Broke(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable && DetailsOf(status).request_id.empty();
}

// A router that can't take the request now, though it may soon.
bool NotNow(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable ||
         status.code() == absl::StatusCode::kResourceExhausted ||
         status.code() == absl::StatusCode::kAlreadyExists;
}

// What must be equal for an answer to be.
std::string SameBytesOf(const v1::Admitted& admitted) {
  std::string besides;
  for (const std::string& fingerprint : admitted.agent_fingerprints())
    besides += fmt::format("{}{:.12}", besides.empty() ? " (agents " : ", ", fingerprint);
  if (!besides.empty()) besides += ")";
  if (const std::string& aggregator = admitted.aggregator_fingerprint(); !aggregator.empty())
    besides += fmt::format(" (aggregator {:.12})", aggregator);
  return fmt::format("fingerprint {:.12}{} with seed {}", admitted.fingerprint(), besides,
                     admitted.seed());
}

}  // namespace

v1::GenerateRequest JoinedStream::Begin(absl::Duration elapsed) {
  stream_reach_.clear();
  stream_admitted_ = false;
  if (answer_.empty()) decisions_.clear();  // It may be another run, and tells its own.
  v1::GenerateRequest request = request_;
  if (admitted_.request_id().empty()) return request;
  request.set_request_id(admitted_.request_id());
  request.set_seed(admitted_.seed());
  request.mutable_resume()->set_answer_bytes(static_cast<int64_t>(answer_.size()));
  request.mutable_resume()->set_answer_sha256(Sha256(answer_));
  if (!answer_.empty() && !request.has_replay()) {
    // What came before the answer must come again: whatever the clock decided was told by then.
    v1::Replay& replay = *request.mutable_replay();
    replay.set_seed(admitted_.seed());
    replay.set_time_of_day(admitted_.time_of_day());
    replay.set_fingerprint(admitted_.fingerprint());
    replay.set_aggregator_fingerprint(admitted_.aggregator_fingerprint());
    *replay.mutable_agent_fingerprints() = admitted_.agent_fingerprints();
    replay.set_decision_version(admitted_.decision_version());
    replay.mutable_decisions()->Add(decisions_.begin(), decisions_.end());
  } else if (request.budget().has_deadline()) {
    google::protobuf::Duration& wire = *request.mutable_budget()->mutable_deadline();
    const absl::Duration left =
        absl::Seconds(wire.seconds()) + absl::Nanoseconds(wire.nanos()) - elapsed;
    const int64_t nanos = std::max<int64_t>(absl::ToInt64Nanoseconds(left), 1'000'000);
    wire.set_seconds(nanos / 1'000'000'000);
    wire.set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
  }
  return request;
}

absl::StatusOr<bool> JoinedStream::TakeAdmitted(const v1::Admitted& admitted) {
  stream_admitted_ = true;
  if (admitted_.request_id().empty()) {
    admitted_ = admitted;
    return true;
  }
  if (admitted.fingerprint() == admitted_.fingerprint() && admitted.seed() == admitted_.seed() &&
      admitted.aggregator_fingerprint() == admitted_.aggregator_fingerprint() &&
      std::ranges::equal(admitted.agent_fingerprints(), admitted_.agent_fingerprints())) {
    return false;
  }
  return Aborted("{} answers; it was {}", SameBytesOf(admitted), SameBytesOf(admitted_));
}

bool JoinedStream::TakeDelta(uint32_t agent, v1::AgentDelta& delta) {
  Reach& stream = stream_reach_[agent];
  Reach& known = reach_[agent];
  const Reach begin = stream;
  stream.thinking += delta.thinking().size();
  stream.answer += delta.answer().size();
  stream.tokens += delta.tokens_size();
  LeaveNews(known.thinking, begin.thinking, *delta.mutable_thinking());
  LeaveNews(known.answer, begin.answer, *delta.mutable_answer());
  const int seen = std::clamp(known.tokens - begin.tokens, 0, delta.tokens_size());
  delta.mutable_tokens()->DeleteSubrange(0, seen);
  known.thinking = std::max(known.thinking, stream.thinking);
  known.answer = std::max(known.answer, stream.answer);
  known.tokens = std::max(known.tokens, stream.tokens);
  return !delta.thinking().empty() || !delta.answer().empty() || delta.tokens_size() > 0;
}

// Its answer is the whole one from here on, also where the message held the beginning only.
absl::StatusOr<bool> JoinedStream::TakeCompleted(v1::Completed& completed) {
  const bool may_be_cut = completed.answer().size() + kMostCharacter > kMostAnswerTold;
  if (completed.answer() != answer_ &&
      !(may_be_cut && absl::StartsWith(answer_, completed.answer()))) {
    return DataLoss("the answer that came has {} bytes; the completed one has {}, or others",
                    answer_.size(), completed.answer().size());
  }
  completed.set_answer(answer_);
  complete_ = true;
  receipt_ = completed.receipt();
  return true;
}

absl::StatusOr<bool> JoinedStream::Take(v1::GenerateResponse& event) {
  const uint32_t agent = event.agent();
  absl::StatusOr<bool> news = true;
  switch (event.event_case()) {
    case v1::GenerateResponse::kAdmitted:
      news = TakeAdmitted(event.admitted());
      break;
    case v1::GenerateResponse::kAgentStarted:
    case v1::GenerateResponse::kAgentFinished:
    case v1::GenerateResponse::kAgentCut:
    case v1::GenerateResponse::kAggregationStarted:
    case v1::GenerateResponse::kCheckerVerdict:
      news = happened_.emplace(event.event_case(), agent).second;
      break;
    case v1::GenerateResponse::kAgentDelta:
      news = TakeDelta(agent, *event.mutable_agent_delta());
      break;
    case v1::GenerateResponse::kProbeAnswer: {
      int& at = probed_at_[agent];
      news = event.probe_answer().at() > at;
      at = std::max(at, event.probe_answer().at());
      break;
    }
    case v1::GenerateResponse::kVoteUpdate:
      news = event.vote_update().counted() > counted_;
      counted_ = std::max(counted_, event.vote_update().counted());
      break;
    case v1::GenerateResponse::kDecision:
      if (event.decision().number() > static_cast<int>(decisions_.size())) {
        decisions_.push_back(event.decision());
      }
      news = event.decision().number() > shown_decisions_;
      shown_decisions_ = std::max(shown_decisions_, event.decision().number());
      break;
    case v1::GenerateResponse::kGroupChanged:
      news = changes_.insert(event.group_changed().reason()).second;
      break;
    case v1::GenerateResponse::kAnswerDelta:
      answer_ += event.answer_delta().text();
      break;
    case v1::GenerateResponse::kCompleted:
      news = TakeCompleted(*event.mutable_completed());
      break;
    case v1::GenerateResponse::EVENT_NOT_SET:
      break;
  }
  if (news.ok() && *news) event.set_sequence(++sequence_);
  return news;
}

Reconnect::Reconnect(const std::string& routers)
    : routers_(absl::StrSplit(routers, ',', absl::SkipEmpty())) {
  if (routers_.empty()) routers_.push_back(routers);
}

std::optional<absl::Duration> Reconnect::After(const absl::Status& status) {
  const bool begun = std::exchange(stream_admitted_, false);
  if (status.ok() || !(begun ? Broke(status) : NotNow(status))) return std::nullopt;
  if (!admitted_) {
    if (status.code() != absl::StatusCode::kUnavailable || at_ + 1 == routers_.size()) {
      return std::nullopt;
    }
    ++at_;
    return absl::ZeroDuration();
  }
  if (++in_all_ > kMostInAll || tries_ == kMostTries) return std::nullopt;
  // The one that had it first: it may still hold it.
  if (!begun) at_ = (at_ + 1) % routers_.size();
  return std::min(kFirstWait * (1 << std::min(tries_++, 10)), kLongestWait);
}

}  // namespace conclave::cli
