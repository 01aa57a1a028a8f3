#include "router/api/request_metrics.h"

#include <string>

namespace conclave::router {
namespace {

std::string CodeName(const absl::Status& status) { return absl::StatusCodeToString(status.code()); }

}  // namespace

const char* NameOf(Mode mode) {
  return mode == Mode::kInstant    ? "instant"
         : mode == Mode::kThinking ? "thinking"
                                   : "contemplating";
}

RequestMetrics::RequestMetrics(Metrics& metrics)
    : metrics_(metrics),
      running_(metrics.AddGauge("conclave_requests_running", "Requests that run.")),
      queued_(metrics.AddGauge("conclave_requests_queued", "Requests that wait to enter.")),
      duration_(metrics.AddHistogram("conclave_request_duration_seconds",
                                     "From admission to the end.", DurationBounds())),
      first_answer_(metrics.AddHistogram("conclave_time_to_first_answer_seconds",
                                         "From admission to the first byte of the answer.",
                                         DurationBounds())) {}

void RequestMetrics::Ended(const char* mode, const absl::Status& status) {
  metrics_
      .AddCounter("conclave_requests_total", "Requests that ended, by mode and status.",
                  {{"mode", mode}, {"code", CodeName(status)}})
      .Add();
}

void RequestMetrics::Completed(const Receipt& receipt) {
  duration_.Observe(absl::ToDoubleSeconds(receipt.wall_time));
  first_answer_.Observe(absl::ToDoubleSeconds(receipt.time_to_first_answer));
  const auto tokens = [this](const char* kind, int64_t count) {
    metrics_
        .AddCounter("conclave_tokens_total", "Tokens of ended requests, by what became of them.",
                    {{"kind", kind}})
        .Add(static_cast<double>(count));
  };
  tokens("thinking", receipt.thinking_tokens);
  tokens("answer", receipt.answer_tokens);
  tokens("aggregation", receipt.aggregation_tokens);
  tokens("discarded", receipt.discarded_tokens);
  tokens("prompt_computed", receipt.prompt.computed);
  tokens("prompt_shared", receipt.prompt.shared);
  const auto agents = [this](const char* outcome, int count) {
    metrics_
        .AddCounter("conclave_agents_total", "Agents of ended requests, by outcome.",
                    {{"outcome", outcome}})
        .Add(count);
  };
  agents("cut", receipt.agents_cut);
  agents("finished", static_cast<int>(receipt.agents.size()) - receipt.agents_cut);
}

void RequestMetrics::Resumed(const char* how) {
  metrics_
      .AddCounter("conclave_streams_resumed_total",
                  "Streams that were taken up: where the request was kept, or by running it again.",
                  {{"how", how}})
      .Add();
}

void RequestMetrics::ResumeRefused(const absl::Status& why) {
  metrics_
      .AddCounter("conclave_resumes_refused_total", "Streams that could not be taken up.",
                  {{"code", CodeName(why)}})
      .Add();
}

void RequestMetrics::SetAdmission(int running, int queued) {
  running_.Set(running);
  queued_.Set(queued);
}

}  // namespace conclave::router
