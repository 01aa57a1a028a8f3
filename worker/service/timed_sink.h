#pragma once

#include <absl/time/time.h>

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "common/clock.h"
#include "common/metrics.h"
#include "worker/engine/engine.h"

namespace conclave::worker {

// A FamilySink that measures the time between the tokens of each agent, and passes everything on.
// It has its clock for itself, because the engine may hold it longer than anybody else lives; the
// Metrics that made `inter_token` must outlive the engine.
class TimedSink final : public FamilySink {
 public:
  TimedSink(std::shared_ptr<FamilySink> sink, std::unique_ptr<Clock> clock, Histogram inter_token)
      : sink_(std::move(sink)), clock_(std::move(clock)), inter_token_(inter_token) {}

  void OnAccepted(const std::vector<AgentId>& gang) override { sink_->OnAccepted(gang); }
  void OnRefused(const std::vector<AgentId>& gang, const absl::Status& why, int width) override {
    sink_->OnRefused(gang, why, width);
  }
  void OnTokens(AgentId agent, int first, const std::vector<TokenEvent>& tokens,
                const std::optional<AgentEnd>& end) override;
  void OnProbe(AgentId agent, int at, const std::vector<TokenEvent>& tokens) override {
    sink_->OnProbe(agent, at, tokens);
  }
  void OnFamilyEnd(const FamilyCounters& counters) override { sink_->OnFamilyEnd(counters); }

 private:
  const std::shared_ptr<FamilySink> sink_;  // Shared with its owner: see Engine::Open.
  const std::unique_ptr<Clock> clock_;
  Histogram inter_token_;
  std::map<AgentId, absl::Time> last_;  // When each agent that runs had its last token.
};

}  // namespace conclave::worker
